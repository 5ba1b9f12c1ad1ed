"""LeNet5, and how it is trained.

The network and the training are those of uncertainty-baselines
(https://github.com/google/uncertainty-baselines, `baselines/mnist`): Adam with a
constant rate of 1e-3, batches of 256, 25 epochs, no label smoothing, no
augmentation. A method that differs says so in its options.

Their README and their code disagree about the padding. The README says that the
network has 60,000 weights, which is LeCun's network: no padding in the second and
third convolution, 61,706 weights. Their code pads all three: 545,546 weights. The
published likelihood fits the small one, so that it is the network of the table. The
large one has rows of its own.
"""

import keras

import keras_uq_layers as uq
from fashion_mnist_benchmark.data import CLASSES
from fashion_mnist_benchmark.data import SIZE

BATCH, RATE = 256, 1e-3
LAYERS = "conv_1", "conv_2", "conv_3", "dense", "logits"
SMALL, LARGE = "valid", "same"  # padding of the second and third convolution


def lenet5(change=None, before=(), padding=SMALL):
    """LeNet5, with logits of the classes.

    Args:
        change: Function from a layer with weights to the list of layers that take
            its place. None: all stay.
        before: Layers in front of all others.
        padding: Of the second and third convolution.
    """

    def convolution(name, filters, padding):
        return keras.layers.Conv2D(
            filters, 5, padding=padding, activation="relu", name=name
        )

    weighted = [
        convolution("conv_1", 6, "same"),
        convolution("conv_2", 16, padding),
        convolution("conv_3", 120, padding),
        keras.layers.Dense(84, activation="relu", name="dense"),
        keras.layers.Dense(CLASSES, name="logits"),
    ]
    one, two, three, four, five = (
        change(layer) if change else [layer] for layer in weighted
    )
    pool = keras.layers.MaxPooling2D
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            *before,
            *(*one, pool(), *two, pool(), *three),
            *(keras.layers.Flatten(), *four, *five),
        ]
    )


def fit(model, work, epochs=None, optimizer=None):
    """Trains a model on the training rows, and returns it."""
    model.compile(
        optimizer or keras.optimizers.Adam(RATE),
        loss=uq.losses.NegativeLogLikelihood(uq.families.Categorical()),
    )
    model.fit(
        *work.data.train, batch_size=BATCH, epochs=epochs or work.epochs, verbose=2
    )
    return model


def falling(work, learning_rate, averaging):
    """Adam whose rate falls to 0 along a cosine, with an average of the weights.

    Args:
        work: A `Work`.
        learning_rate: The rate at the start.
        averaging: Share of the last average in the next one, at each step.
    """
    steps = work.epochs * -(-len(work.data.train.x) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=averaging)


def moves(pixels):
    """Layers that flip an image and shift it by up to so many pixels, in training."""
    share = pixels / SIZE
    return [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomTranslation(
            share, share, fill_mode="constant", interpolation="nearest"
        ),
    ]


def moving(model):
    """The same model, which moves its images in each pass of a prediction, too."""
    h = inputs = keras.Input((SIZE, SIZE, 1))
    for layer in model.layers:
        is_move = isinstance(
            layer, (keras.layers.RandomFlip, keras.layers.RandomTranslation)
        )
        h = layer(h, training=True) if is_move else layer(h)
    return keras.Model(inputs, h)
