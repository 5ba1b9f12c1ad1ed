"""Regression with three hidden variational layers and a learned variance.

5000 points of `y = x^3 + 0.1 (2 + x) eps`, x uniform in [-1, 2], standard
normal priors, three hidden variational layers of 16 units (ReLU) before the
output head, batches of 32, 60 epochs of Adam. Every layer at its defaults, but
for the classic map of the head, `parameterization="scale"`.

Each row of the table is one posterior, estimator, head and schedule over a
number of seeds:

- error: root mean squared error of the predicted mean (100 draws of the
  weights) from `x^3` over [-1, 2], worst seed and mean over the seeds;
- noise: mean over x of predicted scale / true scale, smallest and largest; of
  the constant head, predicted scale / root mean square of the true one;
- spread: standard deviation of the predicted mean between draws, at the ends
  of [-3, 4] and in [-1, 2], the ratio of the two, smallest seed;
- nan: seeds whose loss or prediction is not finite.

    python benchmarks/variational_regression.py [--seeds 10] [--epochs 60] [--only X]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_uq_layers as uq

ROWS, BATCH = 5000, 32
CONFIGURATIONS = [
    ("mean_field", "local_reparameterization", "learned"),
    ("mean_field", "flipout", "learned"),
    ("mean_field", "reparameterization", "learned"),
    ("low_rank", "reparameterization", "learned"),
    ("full_covariance", "reparameterization", "learned"),
    ("mean_field", "local_reparameterization", "constant"),
]


def make_data(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 2.0, size=(ROWS, 1))
    y = x**3 + 0.1 * (2.0 + x) * rng.normal(size=x.shape)
    return x.astype("float32"), y.astype("float32")


def make_model(posterior, estimator, head):
    options = {"kl_weight": 1 / ROWS, "posterior": posterior, "estimator": estimator}
    if head == "learned":
        last = uq.DistributionHead(1, parameterization="scale")
    else:
        last = uq.ConstantVarianceHead(1, trainable_scale=True)
    hidden = [uq.DenseVariational(16, "relu", **options) for _ in range(3)]
    return keras.Sequential([*hidden, last])


def train(posterior, estimator, head, schedule, seed, epochs):
    """The trained model and whether its last loss is finite."""
    keras.utils.set_random_seed(seed)
    x, y = make_data(seed)
    model = make_model(posterior, estimator, head)
    steps = ROWS // BATCH
    rate = 1e-2
    if schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
    model.compile(
        keras.optimizers.Adam(rate),
        uq.losses.NegativeLogLikelihood(),
        jit_compile=False,
        steps_per_execution=steps,
    )
    # Whole batches only: one shape, one trace.
    x, y = x[: steps * BATCH], y[: steps * BATCH]
    history = model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return model, np.isfinite(history.history["loss"]).all()


def measure(model, head, draws=100):
    """Error of the mean curve, noise ratio and growth of the spread."""
    x = np.linspace(-3.0, 4.0, 281, dtype="float32")[:, None]
    inside = (x[:, 0] >= -1.0) & (x[:, 0] <= 2.0)
    params = np.stack([model.predict_on_batch(x) for _ in range(draws)])
    loc, scale = params[..., 0], params[..., 1]
    error = np.sqrt(np.mean((loc.mean(0) - x[:, 0] ** 3)[inside] ** 2))
    noise = np.sqrt(np.mean(scale**2, axis=0))[inside]
    truth = 0.1 * (2.0 + x[inside, 0])
    if head == "constant":  # its best is the root mean square of the truth
        truth = np.sqrt(np.mean(truth**2))
    noise = np.mean(noise / truth)
    spread = loc.std(axis=0)
    growth = np.mean(spread[[0, -1]]) / np.mean(spread[inside])
    return error, noise, growth, np.isfinite(params).all()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="rows with all of these words, such as `flipout constant`",
    )
    options = parser.parse_args()
    print(f"{options.seeds} seeds, {options.epochs} epochs, keras {keras.__version__}")
    print(
        f"{'posterior':16s} {'estimator':25s} {'head':9s} {'schedule':9s} "
        f"{'error max':>9s} {'mean':>6s} {'noise min':>9s} {'max':>5s} "
        f"{'spread min':>10s} {'nan':>3s} {'seconds':>7s}"
    )
    for schedule in ("cosine", "constant"):
        for configuration in CONFIGURATIONS:
            if not set(options.only) <= {*configuration, schedule}:
                continue
            start, rows = time.perf_counter(), []
            for seed in range(options.seeds):
                model, finite = train(*configuration, schedule, seed, options.epochs)
                *values, finite_too = measure(model, configuration[2])
                rows.append([*values, not (finite and finite_too)])
                keras.backend.clear_session()
            error, noise, growth, broken = np.array(rows, dtype=float).T
            posterior, estimator, head = configuration
            print(
                f"{posterior:16s} {estimator:25s} {head:9s} {schedule:9s} "
                f"{error.max():9.3f} {error.mean():6.3f} "
                f"{noise.min():9.3f} {noise.max():5.3f} "
                f"{growth.min():10.1f} {int(broken.sum()):3d} "
                f"{(time.perf_counter() - start) / options.seeds:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
