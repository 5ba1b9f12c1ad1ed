"""The result of `predict`."""

import functools

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers.prediction import mixture

CHECKED_ROWS = 16


def central_density(family, params):
    """Log density at the mean: NaN where the params are outside their domain."""
    try:
        return family.log_prob(family.mean(params), params)
    except NotImplementedError:
        return params[..., 0]  # a family without a mean or a density


def check_density(family, density):
    """Raises an error where `central_density` is NaN."""
    if np.isnan(density).any():
        raise ValueError(
            f"`family` must fit the params: {family!r} has no density for some of "
            "them. A scale may not be positive, or a param not a number. Received: "
            f"params without a density in {np.isnan(density).sum()} of "
            f"{density.size} example(s)"
        )


class Prediction:
    """The predictive distribution of every example: a mixture over passes.

    ```
    p(y | x) = mean over s of p(y | params_s(x))
    std^2    = aleatoric_std^2 + epistemic_std^2
    ```

    Each pass of the model (each member of an ensemble) is one component, with
    equal weight. The aleatoric part is the mean variance of the components,
    noise that more data does not remove; the epistemic part is the variance
    of their means. Their sum is the variance of the mixture, exactly (law of
    total variance). Quantiles, intervals and log probabilities are those of
    the mixture, not of a normal with its moments.

    `uq.predict` makes it; from params of passes of your own it can be made
    directly.

    Args:
        samples: Array `(S, N, ..., P * D)`: the params of every pass.
        family: Name or object of the family that reads them.

    Attributes:
        samples: The params, or None with `keep_samples=False`.
        family: The `families.Family`.
        mean: Mean, `(N, ..., D)`, in the unit of y, as all of the following.
        aleatoric_std: Root of the mean variance of the components.
        epistemic_std: Standard deviation of the means of the components.
        std: Standard deviation of the mixture.

    Raises:
        ValueError: `samples` has no rows or no passes, or is not a params
            tensor of the family.

    Example:

    >>> two_passes = np.array([[[0.0, 1.0]], [[2.0, 1.0]]])  # loc, scale
    >>> prediction = uq.Prediction(two_passes, "normal")
    >>> prediction.mean[0, 0], prediction.epistemic_std[0, 0]
    (np.float64(1.0), np.float64(1.0))
    >>> print(prediction)
    Prediction of 1 example(s) from 2 pass(es), family Normal()
      mean 1, std 1.414 (aleatoric 1, epistemic 1), averaged over all
    """

    def __init__(self, samples, family="normal"):
        family = families.get(family)
        samples = np.asarray(ops.convert_to_numpy(samples))
        shape = samples.shape
        if len(shape) < 3 or samples.size == 0:
            raise ValueError(
                "`samples` must be params of shape (S, N, ..., P * D), with at "
                f"least one pass and one example. Received: samples of shape {shape}"
            )
        family.units(shape[-1])
        some = samples[0, :CHECKED_ROWS].astype("float64")
        density = mixture.evaluate(functools.partial(central_density, family), some)
        check_density(family, density)
        self._set(family, samples, None, shape[0])

    def _set(self, family, samples, moments, passes):
        self.family = family
        self.samples = samples
        self._moments = moments
        self._passes = passes

    @classmethod
    def from_checked_samples(cls, samples, family):
        """A prediction from an array of params that is known to be right."""
        prediction = cls.__new__(cls)
        prediction._set(family, samples, None, len(samples))
        return prediction

    @classmethod
    def from_moments(cls, moments, family, passes):
        """A prediction without the params of the passes.

        Args:
            moments: Dict of arrays `(N, ..., D)`: `mean`, `aleatoric` and
                `epistemic` (both variances); for classes also `entropy`.
            family: Name or object of the family.
            passes: Number of passes behind them.

        Returns:
            A `Prediction`: quantiles and log probabilities raise an error.
        """
        prediction = cls.__new__(cls)
        moments = {
            name: np.asarray(value, dtype="float64") for name, value in moments.items()
        }
        prediction._set(families.get(family), None, moments, passes)
        return prediction

    # Moments

    @functools.cached_property
    def _statistics(self):
        if self._moments is not None:
            return tuple(self._moments[k] for k in ("mean", "aleatoric", "epistemic"))
        return mixture.by_rows(
            lambda params: mixture.moments(self.family, params), self.samples
        )

    @property
    def mean(self):
        return self._statistics[0]

    @property
    def aleatoric_std(self):
        return np.sqrt(self._statistics[1])

    @property
    def epistemic_std(self):
        return np.sqrt(self._statistics[2])

    @property
    def std(self):
        return np.sqrt(self._statistics[1] + self._statistics[2])

    # The mixture

    def quantile(self, q):
        """Quantile of the mixture, output by output.

        A vectorised root search (Chandrupatla's method, bracketed by the
        smallest and the largest quantile of the components) for the smallest
        `y` with `mean over s of cdf_s(y) >= q`.

        Args:
            q: Probability inside (0, 1), or a sequence of these.

        Returns:
            Array `(N, ..., D)`, in the unit of y; for a sequence
            `(len(q), N, ..., D)`.

        Raises:
            ValueError: A probability outside (0, 1), or no samples kept.
            NotImplementedError: The family has no distribution function.
        """
        levels = np.asarray(q, dtype="float64")
        if not ((levels > 0) & (levels < 1)).all():
            raise arguments.error("q", "inside (0, 1)", q)
        samples = self._kept("quantile")
        found = [
            mixture.by_rows(
                lambda params, p=level: mixture.quantile(self.family, params, p),
                samples,
            )
            for level in levels.ravel().tolist()
        ]
        return found[0] if levels.ndim == 0 else np.stack(found)

    def interval(self, level=0.95):
        """Central interval of the mixture, output by output.

        Args:
            level: The probability that it holds, inside (0, 1).

        Returns:
            Two arrays `(N, ..., D)`, in the unit of y: the quantiles
            `(1 - level) / 2` and `(1 + level) / 2`.

        Raises:
            ValueError: A level outside (0, 1), or no samples kept.
            NotImplementedError: The family has no distribution function.
        """
        if not arguments.probability("level", level) or level == 1:
            raise arguments.error("level", "inside (0, 1)", level)
        lower, upper = self.quantile([0.5 - 0.5 * level, 0.5 + 0.5 * level])
        return lower, upper

    def cdf(self, y):
        """Distribution function of the mixture at `y`, output by output.

        At the observed `y` this is the probability integral transform (PIT),
        uniform on (0, 1) for a calibrated model of a continuous quantity.

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ..., D)` of probabilities.
        """
        samples = self._kept("cdf")
        return mixture.by_rows(
            lambda params, y: mixture.cdf(self.family, params, y),
            samples,
            self._aligned(y),
        )

    def log_prob(self, y):
        """Log density of `y` under the mixture, in nats, summed over outputs.

        ```
        log p(y) = log(mean over s of p_s(y)),  p_s joint over the D outputs
        ```

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ...)`.

        Raises:
            ValueError: The shape of `y` does not fit, or no samples kept.
        """
        samples = self._kept("log_prob")
        return mixture.by_rows(
            lambda params, y: mixture.log_prob(self.family, params, y),
            samples,
            self._aligned(y),
        )

    def crps(self, y):
        """Continuous ranked probability score of `y`, output by output.

        ```
        crps = E|Y - y| - E|Y - Y'| / 2,   Y and Y' draws of the mixture
        ```

        A proper score in the unit of y: smaller is better, and for a
        prediction without any spread it is the absolute error. The work grows
        with the square of the number of passes.

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ..., D)`.

        Raises:
            ValueError: The shape of `y` does not fit, or no samples kept.
            NotImplementedError: There is no closed form: for several passes
                there is one for the normal family only, for one pass that of
                the family, if it has any.

        Reference:
            Grimit et al., 2006, "The continuous ranked probability score for
            circular variables", QJRMS 132, doi:10.1256/qj.05.235.
        """
        samples = self._kept("crps")
        return mixture.by_rows(
            lambda params, y: mixture.crps(self.family, params, y),
            samples,
            self._aligned(y),
            temporaries=len(samples),
        )

    def _aligned(self, y):
        y = self.family.align(np.asarray(y), self.samples[0])
        return np.asarray(ops.convert_to_numpy(y), dtype="float64")

    def _kept(self, name):
        if self.samples is None:
            raise ValueError(
                f"`{name}` needs the params of every pass: predict with "
                "`keep_samples=True`. Received: keep_samples=False"
            )
        return self.samples

    # Views

    def to_dataframe(self, level=None):
        """The prediction as a table, one row per example and position.

        Args:
            level: Adds the columns `lower` and `upper` of that interval.

        Returns:
            `pandas.DataFrame`; with several outputs the columns end in
            `_0`, `_1`, ...; several leading axes become index levels.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "`to_dataframe` needs pandas: pip install pandas"
            ) from error
        columns = self._columns()
        if level is not None:
            columns["lower"], columns["upper"] = self.interval(level)
        *leading, width = self.mean.shape
        table = {}
        for name, values in columns.items():
            if values.ndim == len(leading):
                table[name] = values.ravel()
                continue
            for d in range(width):
                table[name if width == 1 else f"{name}_{d}"] = values[..., d].ravel()
        index = None
        if len(leading) > 1:
            index = pd.MultiIndex.from_product([range(n) for n in leading])
        return pd.DataFrame(table, index=index)

    def _columns(self):
        names = ("mean", "std", "aleatoric_std", "epistemic_std")
        return {name: getattr(self, name) for name in names}

    def _summary(self):
        parts = {name: np.mean(values) for name, values in self._columns().items()}
        return (
            f"mean {parts['mean']:.4g}, std {parts['std']:.4g} (aleatoric "
            f"{parts['aleatoric_std']:.4g}, epistemic {parts['epistemic_std']:.4g}), "
            "averaged over all"
        )

    def __len__(self):
        return len(self.mean)

    def __repr__(self):
        positions = " x ".join(str(n) for n in self.mean.shape[:-1])
        return (
            f"{type(self).__name__} of {positions} example(s) from "
            f"{self._passes} pass(es), family {self.family!r}\n  {self._summary()}"
        )


class ClassPrediction(Prediction):
    """The predictive distribution over classes: a mixture over passes.

    ```
    entropy            = H(mean over s of p_s)      total
    expected_entropy   = mean over s of H(p_s)      aleatoric
    mutual_information = entropy - expected_entropy epistemic
    ```

    For a categorical family one value per example; for a Bernoulli family
    one per output, each a question of its own. In nats.

    Args:
        samples: Array `(S, N, ..., K)`: the logits of every pass.
        family: `"categorical"` or `"bernoulli"`.

    Attributes:
        probabilities: Mean probabilities: of the `K` classes, or of a 1. The
            `mean` by another name.
        entropy: Entropy of the mean probabilities.
        expected_entropy: Mean entropy of the passes.
        mutual_information: How much the passes disagree; at least 0.

    Other attributes are those of `Prediction`, for the one-hot vector.

    Example:

    >>> disagree = np.array([[[9.0, -9.0]], [[-9.0, 9.0]]])
    >>> prediction = uq.ClassPrediction(disagree, "categorical")
    >>> round(float(prediction.mutual_information[0]), 2)  # log(2)
    0.69

    References:
        Houlsby et al., 2011, "Bayesian Active Learning for Classification and
        Preference Learning", arXiv:1112.5745. Depeweg et al., 2018,
        "Decomposition of Uncertainty in Bayesian Deep Learning", ICML,
        arXiv:1710.07283.
    """

    def __init__(self, samples, family="categorical"):
        super().__init__(samples, family)

    @property
    def entropy(self):
        p = self.mean
        if isinstance(self.family, families.Categorical):
            return _plogp(p).sum(axis=-1)
        return _plogp(p) + _plogp(1.0 - p)

    @property
    def probabilities(self):
        return self.mean

    @functools.cached_property
    def expected_entropy(self):
        if self._moments is not None:
            return self._moments["entropy"]
        return mixture.by_rows(
            lambda params: mixture.evaluate(self.family.entropy, params).mean(axis=0),
            self.samples,
        )

    @property
    def mutual_information(self):
        # Never negative, but for rounding.
        return np.maximum(self.entropy - self.expected_entropy, 0.0)

    def log_prob(self, y):
        """Log probability of `y` under the mixture, in nats.

        For labels `log(mean over s of p_s(y))`; for probabilities over `K`
        classes the negative cross-entropy to the mean probabilities.

        Args:
            y: Labels, or probabilities, as for the family.

        Returns:
            Array `(N, ...)`.

        Raises:
            ValueError: The shape of `y` does not fit, or no samples kept.
        """
        if not isinstance(self.family, families.Categorical):
            return super().log_prob(y)

        def log_prob(params, y):
            log_p = mixture.log_mean_exp(mixture.evaluate(_log_softmax, params))
            outside = ((y < 0) | (y > 1)).any(axis=-1)
            terms = y * np.where(y == 0, 0.0, log_p)
            return np.where(outside, -np.inf, terms.sum(axis=-1))

        return mixture.by_rows(log_prob, self._kept("log_prob"), self._aligned(y))

    def _columns(self):
        names = ("mean", "entropy", "expected_entropy", "mutual_information")
        return {name: getattr(self, name) for name in names}

    def _summary(self):
        parts = {name: np.mean(values) for name, values in self._columns().items()}
        return (
            f"entropy {parts['entropy']:.4g} nats (expected "
            f"{parts['expected_entropy']:.4g}, mutual information "
            f"{parts['mutual_information']:.4g}), averaged over all"
        )


def _log_softmax(logits):
    return ops.log_softmax(logits, axis=-1)


def _plogp(p):
    """`-p log p`, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))
