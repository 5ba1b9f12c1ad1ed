"""Writes the files that every later version must load: `tests/saved/<version>/`.

For each model a `.keras` file, and an `.npz` with an input `x` and the next two
outputs, `first` and `second`: they differ where the model is random, and tell
where the stream of its noise goes on. For a compiled model also targets `y` and
`logs`, what `evaluate` then returns. `calibrators.json` holds the calibrators,
which are no part of a Keras model.

The files pin the random stream of TensorFlow. Run it from the root of the
repository when the version has been raised, once, and commit what it writes:

    PYTHONPATH=.:tests python tests/saved/write.py

A file that has been committed is never written again. When a layer is added,
the tests ask for a file of it: that takes a new version, too.
"""

import json
from pathlib import Path

import keras
import numpy as np
from dropping_layers import X
from dropping_layers import dropping_model
from layer_cases import CASES
from layer_cases import FAMILIES

import keras_uq_layers as uq
from keras_uq_layers.testing import generic_input

HERE = Path(__file__).parent
ROWS = 6
LEVELS = [0.1, 0.5, 0.9]


def layer_models():
    """Name, model and input: the cases of the harness, serving, MC dropout."""
    for i, case in enumerate(CASES):
        x = case.expect.get("make_input", generic_input)(case.input_shape)
        yield f"layer_{i:02d}_{case.layer}", keras.Sequential([case.make()]), x
    head = keras.Sequential([keras.Input((3,)), uq.DistributionHead(2)])
    yield "serving", uq.serving_model(head, level=0.8), generic_input((ROWS, 3))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    yield "serving_point", uq.serving_model(plain), generic_input((ROWS, 3))
    known = generic_input((40, 3))
    features = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh")])
    for covariance in ("shared", "own"):
        density = uq.novelty.FeatureDensity(features, -1, covariance)
        density.fit(known, np.arange(40) % 2, verbose=0)
        yield f"novelty_{covariance}", density.scorer, generic_input((ROWS, 3))
    classes = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    for structure in ("full", "kronecker"):
        found = uq.to_laplace(
            classes, known, np.arange(40) % 2, structure=structure, verbose=0
        )
        yield f"to_laplace_{structure}", found, generic_input((ROWS, 3))
    yield "to_bayesian", bayesian_model(), generic_input((ROWS, 3))
    yield "to_mc_dropout", uq.to_mc_dropout(dropping_model()), X


def bayesian_model():
    """Priors that are centred at weights, native and wrapped, and LoRA."""
    adapted = keras.layers.Dense(2, name="adapted")
    hidden = keras.layers.Dense(3, "tanh", kernel_regularizer="l2")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), hidden, adapted]
    )
    adapted.enable_lora(1, lora_alpha=2)
    adapted.lora_kernel_b.assign([[1.0, -1.0]])
    return uq.to_bayesian(model, kl_weight=0.1)


def compiled_models():
    """Name, compiled model, input and targets: losses, metrics, families."""
    m = uq.metrics
    loss = uq.losses.NegativeLogLikelihood
    x = generic_input((ROWS, 3))
    rng = np.random.default_rng(0)
    proportion = rng.uniform(0.1, 0.9, (ROWS, 2)).astype("float32")
    label = rng.integers(0, 2, (ROWS, 1)).astype("float32")

    def compiled(last, loss, metrics=()):
        model = keras.Sequential([keras.layers.Dense(4, "tanh"), *last])
        model.compile(keras.optimizers.Adam(1e-2), loss, metrics=list(metrics))
        return model

    adapted = uq.DistributionHead(2)
    adapted.adapt(5 + 3 * proportion)
    scores = [
        m.NegativeLogLikelihood(),
        m.MeanAbsoluteError(),
        m.RootMeanSquaredError(),
        m.CRPS(),
        m.IntervalCoverage(0.8),
        m.MeanIntervalWidth(0.8),
        m.IntervalScore(0.8),
        m.RegressionCalibrationError(levels=9),
    ]
    yield "normal", compiled([adapted], loss(beta=0.5), scores), x, proportion
    f = uq.families
    for family in [
        f.Laplace(),
        f.Logistic(),
        f.Weibull(),
        f.Interval("normal"),
        f.ZeroInflated("poisson"),
        f.Hurdle("negative_binomial"),
        *FAMILIES,
    ]:
        if isinstance(family, uq.families.Quantiles):
            continue  # it has no likelihood: see `pinball`
        target = (proportion > 0.5).astype("float32") if family.discrete else proportion
        last = [uq.DistributionHead(2, family)]
        model = compiled(last, loss(family), [m.NegativeLogLikelihood(family)])
        yield family.name, model, x, target
    yield "crps", compiled([uq.DistributionHead(2)], uq.losses.CRPS()), x, proportion
    last = [uq.DistributionHead(2, uq.families.Quantiles(LEVELS))]
    pinball = compiled(last, uq.losses.Pinball(LEVELS), [m.Pinball(LEVELS)])
    yield "pinball", pinball, x, proportion
    for family, units in [(uq.families.Bernoulli(), 1), (uq.families.Categorical(), 3)]:
        last = [keras.layers.Dense(units), uq.TemperatureScaling(1.5)]
        metrics = [
            m.Accuracy(family),
            m.BrierScore(family),
            m.ExpectedCalibrationError(family, bins=5),
            m.ExpectedCalibrationError(family, adaptive=True, name="adaptive_ece"),
            m.PredictiveEntropy(family),
        ]
        yield family.name, compiled(last, loss(family), metrics), x, label
    selective = [m.AURC(), m.AUGRC()]
    last = [uq.DistributionHead(3, "categorical")]
    yield "selective", compiled(last, loss(), selective), x, label
    variational = uq.DenseVariational(
        3, kl_weight=0.1, prior="scale_mixture", bias_prior="normal"
    )
    last = [variational, uq.ConstantVarianceHead(2, trainable_scale=True)]
    yield "variational", compiled(last, loss()), x, proportion
    autoencoder = [uq.DistributionHead(2), uq.NormalSampling(0.5)]
    last = [*autoencoder, uq.ConstantVarianceHead(3)]
    yield "autoencoder", compiled(last, loss()), x, x

    def member():
        return keras.Sequential(
            [keras.Input((3,)), uq.MCDropout(0.2), uq.DistributionHead(2)]
        )

    ensemble = uq.Ensemble(member, members=2)
    ensemble.compile("adam", loss(), metrics=[m.NegativeLogLikelihood()])
    yield "ensemble", ensemble, x, proportion


def calibrators():
    """The fitted calibrators."""
    c = uq.calibration
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(99, 1))
    params = np.concatenate([loc, np.ones_like(loc)], axis=-1)[None]
    y = loc + 2 * rng.normal(size=loc.shape)
    all_rows, few = (uq.Prediction(p, "normal") for p in (params, params[:, :9]))
    logits = np.log(rng.dirichlet(np.ones(3), size=99))
    classes = uq.ClassPrediction(logits[None], "categorical")
    return [
        c.SplitConformal(0.8).fit(all_rows, y),
        c.ConformalQuantile(0.8).fit(all_rows, y),
        c.ScaleCalibration().fit(all_rows, y),
        c.IsotonicCalibration().fit(few, y[:9]),
        c.AdaptivePredictionSets(0.8).fit(classes, rng.integers(0, 3, 99)),
        c.LeastAmbiguousSets(0.8).fit(classes, rng.integers(0, 3, 99), "classes"),
        c.AdaptiveConformal(0.8).fit(few, y[:9]),
        c.SelectivePrediction(0.1).fit(classes, classes.mean.argmax(axis=-1)),
    ]


def output(model, x):
    """An output, as one array; a dict in the order of its names."""
    found = model(x)
    if isinstance(found, dict):
        found = keras.ops.stack([found[name] for name in sorted(found)])
    return np.asarray(keras.ops.convert_to_numpy(found))


def outputs(model, x):
    """Two outputs, one after the other."""
    return {name: output(model, x) for name in ("first", "second")}


def evaluate(model, x, y):
    """What `evaluate` returns, as an array in the order of its names."""
    logs = model.evaluate(x, y, batch_size=ROWS, verbose=0, return_dict=True)
    return np.array([logs[name] for name in sorted(logs)])


def main():
    folder = HERE / uq.__version__
    if keras.backend.backend() != "tensorflow":
        raise SystemExit("The files pin the random stream of TensorFlow: run it there.")
    if folder.exists():
        raise SystemExit(
            f"{folder} exists. What a version has written is never written again: "
            "raise the version in keras_uq_layers/_version.py first."
        )
    folder.mkdir()
    keras.utils.set_random_seed(0)
    for name, model, x in layer_models():
        model(x)
        model.save(folder / f"{name}.keras")
        np.savez_compressed(folder / f"{name}.npz", x=x, **outputs(model, x))
    for name, model, x, y in compiled_models():
        model.run_eagerly = True
        model.train_on_batch(x, y)
        model.save(folder / f"{name}.keras")
        seen = {**outputs(model, x), "logs": evaluate(model, x, y)}
        np.savez_compressed(folder / f"{name}.npz", x=x, y=y, **seen)
    serialized = [keras.saving.serialize_keras_object(c) for c in calibrators()]
    (folder / "calibrators.json").write_text(json.dumps(serialized, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{len(list(folder.glob('*.keras')))} models, {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
