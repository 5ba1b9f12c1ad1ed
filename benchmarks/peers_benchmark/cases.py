"""What every variant trains: the same networks, on the same rows."""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable

import keras
import numpy as np

import keras_uq_layers as uq

# The KL enters the loss with the weight 1 / ROWS.
ROWS = 5000
SAMPLES = 100
RATE = 1e-3
SHARED, LOCAL, FLIPOUT = "shared sample", "local", "flipout"
PLAIN, PRODUCTS = "plain", "products"
ESTIMATORS = {
    SHARED: "reparameterization",
    LOCAL: "local_reparameterization",
    FLIPOUT: "flipout",
}
# Convolutions are `WINDOW` x `WINDOW` and take every second position.
WINDOW, STRIDE, SIDE = 3, 2, 28


@dataclasses.dataclass(frozen=True)
class Case:
    """A network of ReLU layers and a batch.

    Attributes:
        network: Its name.
        batch: Rows of a batch.
        features: Units, or channels of an image, of the input.
        filters: Of the convolutions, which come first.
        units: Of the dense layers.
        samples: Passes of a prediction.
    """

    network: str
    batch: int
    features: int
    units: tuple[int, ...]
    filters: tuple[int, ...] = ()
    samples: int = SAMPLES

    @property
    def name(self):
        return f"{self.network}, batch {self.batch}"

    def layers(self, convolution, dense):
        """A layer after the other, each made from its inputs and its outputs."""
        made, inputs, side = [], self.features, SIDE
        for filters in self.filters:
            made.append(convolution(inputs, filters))
            inputs, side = filters, (side - WINDOW) // STRIDE + 1
        if self.filters:
            inputs *= side**2
        for units in self.units:
            made.append(dense(inputs, units))
            inputs = units
        return made

    def kernels(self, convolution):
        """Normal arrays, those of convolutions in the shape of `convolution`."""
        rng = np.random.default_rng(1)

        def kernel(*shape):
            fan_in = math.prod(shape) / self.units[-1]
            return rng.normal(0, fan_in**-0.5, shape).astype("float32")

        return self.layers(lambda *sizes: kernel(*convolution(*sizes)), kernel)

    def shape(self):
        """Of a row of the input, as Keras's layers on this backend want it."""
        if not self.filters:
            return (self.features,)
        if data_format() == "channels_first":
            return (self.features, SIDE, SIDE)
        return (SIDE, SIDE, self.features)

    def data(self):
        rng = np.random.default_rng(0)
        shapes = (self.batch, *self.shape()), (self.batch, self.units[-1])
        return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)

    @property
    def weights(self):
        """Number of the weights, bias included."""
        return sum(
            self.layers(
                lambda inputs, filters: (WINDOW**2 * inputs + 1) * filters,
                lambda inputs, units: (inputs + 1) * units,
            )
        )


_SIZES = {
    "3 x 16": (16, (16,) * 3, ()),
    "2 x 128": (128, (128,) * 2, ()),
    "2 x 512": (512, (512,) * 2, ()),
    "2 x 1024": (1024, (1024,) * 2, ()),
    "convolutions of 16 and 32, 10 units": (1, (10,), (16, 32)),
}
# More passes of these would take seconds.
FEWER_SAMPLES = {"2 x 512": 20, "2 x 1024": 10}
CASES = {
    case.name: case
    for case in (
        Case(network, batch, *sizes, samples=FEWER_SAMPLES.get(network, SAMPLES))
        for network, sizes in _SIZES.items()
        for batch in (32, 512)
    )
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train and to run the network of a case.

    Attributes:
        loop: Who runs the step: the twin with plain layers has the same loop.
        layers: Whose layers these are.
        estimator: `PLAIN`, `SHARED`, `LOCAL`, `FLIPOUT` or, without bias,
            activation, loss and optimizer, `PRODUCTS`.
        weights: How many numbers are trained.
        step: Function that makes one step and returns the loss, or None.
        predict: Function that returns the outputs of all passes as an array
            `(samples, batch, units)`, or None.
    """

    loop: str
    layers: str
    estimator: str
    weights: int
    step: Callable[[], float] | None = None
    predict: Callable[[], np.ndarray] | None = None


def data_format():
    """That of the convolutions that are native on this backend."""
    return "channels_first" if keras.backend.backend() == "torch" else None


def keras_model(case, convolution, dense):
    sizes = {"kernel_size": WINDOW, "strides": STRIDE, "data_format": data_format()}
    layers = case.layers(
        lambda _, filters: convolution(filters, activation="relu", **sizes),
        lambda _, units: dense(units, activation="relu"),
    )
    return keras.Sequential([keras.Input(case.shape()), *flattened(case, layers)])


def flattened(case, layers, flatten=keras.layers.Flatten):
    """The layers, with another between convolutions and dense ones."""
    first = len(case.filters)
    return [*layers[:first], flatten(), *layers[first:]] if first else layers


def model_of(case, estimator):
    """A model of Keras's layers for `PLAIN`, else of ours."""
    if estimator == PLAIN:
        return keras_model(case, keras.layers.Conv2D, keras.layers.Dense)
    ours = {"kl_weight": 1 / ROWS, "estimator": ESTIMATORS[estimator]}
    return keras_model(
        case,
        functools.partial(uq.Conv2DVariational, **ours),
        functools.partial(uq.DenseVariational, **ours),
    )


def our_predict(model, x, samples):
    return lambda: uq.predict(model, x, samples=samples, verbose=0).samples


def train_on_batch(model, x, y):
    """The step of Keras's own trainer."""
    model.compile(keras.optimizers.Adam(RATE), "mse")
    return lambda: model.train_on_batch(x, y)


def size(variables):
    """How many numbers are trained."""
    return sum(math.prod(v.shape) for v in variables)


def peer(module):
    """The module of this package that needs a peer, or None, with a line on why."""
    try:
        return importlib.import_module(f"peers_benchmark.{module}")
    except ImportError as error:
        print(f"{module}: left out, since its library cannot be imported ({error})")
        return None
