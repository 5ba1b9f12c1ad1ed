"""The result of `predict`: a mixture over passes, or its moments alone."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Floats
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families.point import WHAT_TO_ADD
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.prediction import mixture
from keras_uq_layers.prediction.crps import crps


class Moments:
    """Mean and variance of every example, the variance split by its source.

    ```
    variance = aleatoric_std ^ 2 + epistemic_std ^ 2
    ```

    Each pass of the model (each member of an ensemble) is one component of a
    mixture, with equal weight. The aleatoric part is the mean variance of the
    components: noise that more data does not remove. The epistemic part is the
    variance of their means. Their sum is the variance of the mixture, exactly
    (law of total variance).

    `uq.predict(..., keep_samples=False)` returns this class. A `Prediction`
    holds the params of every pass, too, and therefore knows quantiles and
    densities.

    Args:
        mean: Mean of the mixture, `(N, ..., D)`, in the unit of y.
        aleatoric_variance: Mean of the variances of the components.
        epistemic_variance: Variance of the means of the components.
        family: Name or object of the family of the components.
        passes: Number of components.

    Attributes:
        family: The `families.Family`.
        passes: Number of components.
        mean: Mean, `(N, ..., D)`, in the unit of y.
        variance: Variance of the mixture, in the squared unit of y.
        std: Standard deviation of the mixture, in the unit of y.
        aleatoric_std: Root of the mean variance of the components.
        epistemic_std: Standard deviation of the means of the components.

    A slice or a mask of rows gives the moments of those: `moments[:10]`.

    Example:

    >>> one, nine, sixteen = (np.full((2, 1), value) for value in (1.0, 9.0, 16.0))
    >>> moments = uq.Moments(one, nine, sixteen, "normal", passes=10)
    >>> moments.std[0, 0], len(moments[:1])
    (np.float64(5.0), 1)
    """

    _names: tuple[str, ...] = ("mean", "std", "aleatoric_std", "epistemic_std")

    def __init__(
        self,
        mean: Array,
        aleatoric_variance: Array,
        epistemic_variance: Array,
        family: Identifier,
        passes: int,
    ) -> None:
        self.family = families.get(family)
        self.passes = passes
        given = (mean, aleatoric_variance, epistemic_variance)
        self._moments = tuple(to_numpy(value) for value in given)

    @property
    def mean(self) -> Array:
        return self._moments[0]

    @property
    def aleatoric_std(self) -> Array:
        return np.sqrt(self._moments[1])

    @property
    def epistemic_std(self) -> Array:
        return np.sqrt(self._moments[2])

    @property
    def variance(self) -> Array:
        return self._moments[1] + self._moments[2]

    @property
    def std(self) -> Array:
        return np.sqrt(self.variance)

    @property
    def _positions(self) -> tuple[int, ...]:
        """The shape without the outputs: `(N, ...)`."""
        return self._moments[0].shape[:-1]

    def to_dataframe(self) -> Any:
        """The prediction as a table, one row per example and position.

        Returns:
            `pandas.DataFrame`; with several outputs the columns end in
            `_0`, `_1`, ...; several leading axes become index levels.

        Raises:
            ImportError: pandas is not installed.
        """
        return self._as_table(self._columns())

    def _columns(self) -> dict[str, Array]:
        """The arrays of `_names` that the family has."""
        columns = {}
        for name in self._names:
            try:
                columns[name] = getattr(self, name)
            except NotImplementedError:  # a family without a mean or a variance
                continue
        return columns

    def _as_table(self, columns: dict[str, Array]) -> Any:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "`to_dataframe` needs pandas: pip install pandas"
            ) from error
        leading = self._positions
        table = {}
        for name, values in columns.items():
            if values.ndim == len(leading):
                table[name] = values.ravel()
                continue
            width = values.shape[-1]
            for d in range(width):
                table[name if width == 1 else f"{name}_{d}"] = values[..., d].ravel()
        index = None
        if len(leading) > 1:
            index = pd.MultiIndex.from_product([range(n) for n in leading])
        return pd.DataFrame(table, index=index)

    def __len__(self) -> int:
        return self._positions[0]

    def __getitem__(self, rows: Any) -> "Moments":
        rows = _rows(rows, len(self))
        mean, aleatoric, epistemic = (value[rows] for value in self._moments)
        return Moments(mean, aleatoric, epistemic, self.family, self.passes)

    def __repr__(self) -> str:
        positions = " x ".join(str(n) for n in self._positions)
        with warnings.catch_warnings():
            # Of rows that are all NaN.
            warnings.simplefilter("ignore", RuntimeWarning)
            averages = [
                f"{name} {np.nanmean(values):.4g}"
                for name, values in self._columns().items()
            ]
        lines = [
            f"{type(self).__name__} of {positions} example(s) from {self.passes} "
            f"pass(es), family {self.family!r}",
            f"averages: {', '.join(averages)}",
        ]
        if isinstance(self.family, families.Point):
            lines.append("a plain prediction: the noise of the data is not in it")
        return "\n  ".join(lines)


class Prediction(Moments):
    """The predictive distribution of every example: a mixture over passes.

    ```
    p(y | x) = mean over s of p(y | params_s(x))
    std^2    = aleatoric_std^2 + epistemic_std^2
    ```

    Quantiles, intervals, densities, scores and draws are those of the mixture,
    not of a normal with its moments. For the two parts of the variance see
    `Moments`.

    `uq.predict` makes it. It can also be made of params: those of passes of
    your own, or `params[None]` of a single pass. Predictions of any other
    library are of the family `"point"`.

    A row (an example, or a position of it) with params that no distribution
    has, such as a negative scale or a NaN, is answered by NaN throughout. A
    warning tells how many there are.

    Args:
        samples: Array `(S, N, ..., P * D)`: the params of every pass.
        family: Name or object of the family that reads them.

    Attributes:
        samples: The params.
        family: The `families.Family`.
        passes: Number of components `S`.
        mean: Mean, `(N, ..., D)`, in the unit of y.
        median: Median, `(N, ..., D)`, in the unit of y.
        variance: Variance of the mixture, in the squared unit of y.
        std: Standard deviation of the mixture, in the unit of y.
        aleatoric_std: Root of the mean variance of the components.
        epistemic_std: Standard deviation of the means of the components.

    A slice or a mask of rows gives the prediction of those: `prediction[:10]`.

    Raises:
        ValueError: `samples` has no rows or no passes, or is not a params
            tensor of the family.
        NotImplementedError: The attribute or method does not exist for the
            family: a mean for `Quantiles`, a quantile for classes.

    Example:

    >>> two_passes = np.array([[[0.0, 1.0]], [[2.0, 1.0]]])  # loc, scale
    >>> prediction = uq.Prediction(two_passes, "normal")
    >>> prediction.mean[0, 0], prediction.epistemic_std[0, 0]
    (np.float64(1.0), np.float64(1.0))
    >>> print(prediction)
    Prediction of 1 example(s) from 2 pass(es), family Normal()
      averages: mean 1, std 1.414, aleatoric_std 1, epistemic_std 1
    """

    def __init__(self, samples: Tensor, family: Identifier) -> None:
        self.family = families.get(family)
        self.samples = np.asarray(ops.convert_to_numpy(samples))
        shape = self.samples.shape
        if len(shape) < 3 or self.samples.size == 0:
            raise ValueError(
                "`samples` must be params of shape (S, N, ..., P * D), with at "
                f"least one pass and one example. Received: samples of shape {shape}"
            )
        self._units = self.family.units(shape[-1])
        self.passes = shape[0]
        flat = self.samples.reshape(shape[0], -1, shape[-1])
        known = mixture.by_rows(functools.partial(mixture.known, self.family), flat)
        self._known = known.reshape(shape[1:-1])
        # A row of NaN alone is an example without an input.
        lost = ~self._known & ~np.isnan(self.samples).all(axis=(0, -1))
        mixture.warn_of_rows(lost, self.family, stacklevel=3)

    @functools.cached_property
    def _moments(self) -> tuple[Array, ...]:  # type: ignore[override]
        return self._each(mixture.moments)

    @property
    def mean(self) -> Array:
        try:
            return self._moments[0]
        except NotImplementedError:
            pass  # perhaps it is the variance alone that does not exist
        try:
            return self._mean
        except NotImplementedError:
            raise NotImplementedError(
                f"The family {self.family!r} has no mean. Use `median` instead."
            ) from None

    @functools.cached_property
    def _mean(self) -> Array:
        def mean(family, params):
            return mixture.evaluate(family.mean, params).mean(axis=0)

        return self._each(mean)

    @property
    def median(self) -> Array:
        return self.quantile(0.5)

    @property
    def _positions(self) -> tuple[int, ...]:
        return self.samples.shape[1:-1]

    # The mixture

    def quantile(self, q: Floats) -> Array:
        """Quantile of the mixture, output by output.

        The smallest `y` with `mean over s of cdf_s(y) >= q`, by a root search
        for all examples at once, to 1e-10 of the standard deviation.

        Args:
            q: Probability inside (0, 1), or a sequence of these.

        Returns:
            Array `(N, ..., D)`, in the unit of y; for a sequence
            `(len(q), N, ..., D)`.

        Raises:
            ValueError: A probability outside (0, 1).
            NotImplementedError: The family has no distribution function.
        """
        levels = np.asarray(q, dtype="float64")
        if not ((levels > 0) & (levels < 1)).all():
            raise arguments.error("q", "inside (0, 1)", q)
        found = np.moveaxis(self._quantiles(levels.ravel()), -1, 0)
        return found[0] if levels.ndim == 0 else found

    def _quantiles(self, levels: Array) -> Array:
        """Quantiles `(N, ..., D, levels)`."""
        return self._each(functools.partial(mixture.quantile, levels=levels))

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Central interval of the mixture, output by output.

        Args:
            level: The probability that it holds, inside (0, 1).

        Returns:
            Two arrays `(N, ..., D)`, in the unit of y: the quantiles
            `(1 - level) / 2` and `(1 + level) / 2`.

        Raises:
            ValueError: A level outside (0, 1).
            NotImplementedError: The family has no distribution function, or the
                prediction is a single point, without any spread.
        """
        if isinstance(self.family, families.Point) and self._passes_are_equal:
            raise NotImplementedError(
                "Equal passes of the family 'point' have no interval: its width "
                f"would be 0. {WHAT_TO_ADD} `uq.to_mc_dropout` and `uq.Ensemble` give "
                "passes that differ, and the interval in which they lie."
            )
        half = 0.5 * arguments.open_probability("level", level)
        lower, upper = self.quantile([0.5 - half, 0.5 + half])
        return lower, upper

    @property
    def _passes_are_equal(self) -> bool:
        first = np.broadcast_to(self.samples[:1], self.samples.shape)
        return np.array_equal(self.samples, first, equal_nan=True)

    def cdf(self, y: Tensor) -> Array:
        """Distribution function of the mixture at `y`, output by output.

        At the observed `y` this is the probability integral transform (PIT),
        uniform on (0, 1) for a calibrated model of a continuous quantity.

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ..., D)` of probabilities.

        Raises:
            ValueError: The shape of `y` does not fit.
            NotImplementedError: The family has no distribution function.
        """
        return self._each(mixture.cdf, self._aligned(y))

    def log_prob(self, y: Tensor) -> Array:
        """Log density of `y` under the mixture, in nats, summed over outputs.

        ```
        log p(y) = log(mean over s of p_s(y)),  p_s joint over the D outputs
        ```

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1; for the family
                `Interval` also intervals `(N, ..., 2 * D)`.

        Returns:
            Array `(N, ...)`.

        Raises:
            ValueError: The shape of `y` does not fit.
            NotImplementedError: The family has no density.
        """
        target = self.family.align_target(np.asarray(y), self.samples[0])
        return self._each(mixture.log_prob, to_numpy(target))

    def crps(self, y: Tensor) -> Array:
        """Continuous ranked probability score of `y`, output by output.

        ```
        crps = integral of F(z)^2 below y + integral of (1 - F(z))^2 above y
             = E|Y - y| - E|Y - Y'| / 2,   Y and Y' draws of the mixture
        ```

        A proper score in the unit of y: smaller is better, and for a
        prediction without any spread it is the absolute error. It is computed
        by numerical integration of the distribution function of the mixture,
        to about a thousandth of its value.

        It is infinite where the integral is: for Student's t with `df <= 1/2`.
        `Quantiles` know nothing beyond their outermost levels: what
        probability is left counts as lying at the outermost quantiles.

        Args:
            y: Array `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ..., D)`.

        Raises:
            ValueError: The shape of `y` does not fit.
            NotImplementedError: The family has no distribution function.

        Reference:
            Gneiting & Raftery, 2007, "Strictly Proper Scoring Rules,
            Prediction, and Estimation", JASA 102(477),
            doi:10.1198/016214506000001437.
        """
        return self._each(crps, self._aligned(y))

    def sample(self, n: int, seed: int | None = None) -> Array:
        """Draws of `y` from the mixture.

        Each draw takes a pass at random, for all outputs of an example
        together, and then a draw of its distribution.

        Args:
            n: Number of draws, a positive integer.
            seed: Integer. None: other draws each time.

        Returns:
            Array `(n, N, ..., D)`, in the unit of y.

        Raises:
            ValueError: `n` is not a positive integer.
            NotImplementedError: The family cannot be drawn from.
        """
        n = arguments.positive_int("n", n)
        draw = functools.partial(mixture.sample, n=n, rng=np.random.default_rng(seed))
        return np.moveaxis(self._each(draw), -1, 0)

    def _each(self, function: Callable[..., Any], *others: Array) -> Any:
        """`function(family, params, *others)` of all positions; NaN where unknown.

        The function gets the positions in one axis: params `(S, n, P * D)`
        and slices `(n, ...)` of the others, which start with `(N, ...)`.
        """
        known = self._known if self._known.any() else np.ones_like(self._known)
        found = mixture.by_rows(
            functools.partial(function, self.family),
            self.samples[:, known],
            *(other[known] for other in others),
        )

        def spread(values):
            every = np.full((*known.shape, *values.shape[1:]), np.nan)
            every[known] = values
            every[~self._known] = np.nan
            return every

        return tuple(map(spread, found)) if isinstance(found, tuple) else spread(found)

    def _aligned(self, y: Tensor) -> Array:
        return to_numpy(self.family.align(np.asarray(y), self.samples[0]))

    # Views

    def to_dataframe(self, level: float | None = None) -> Any:
        """The prediction as a table, one row per example and position.

        The columns are `mean`, `std`, `aleatoric_std` and `epistemic_std`, for
        classes the entropies, for a family without a mean the `median`.

        Args:
            level: Adds the columns `lower` and `upper` of that interval.

        Returns:
            `pandas.DataFrame`; with several outputs the columns end in
            `_0`, `_1`, ...; several leading axes become index levels.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = self._columns()
        if level is not None:
            columns["lower"], columns["upper"] = self.interval(level)
        return self._as_table(columns)

    def _columns(self) -> dict[str, Array]:
        columns = super()._columns()
        if "mean" in columns:
            return columns
        try:
            return {"median": self.median, **columns}
        except (NotImplementedError, ValueError):  # quantiles without a middle
            return columns

    def __getitem__(self, rows: Any) -> "Prediction":
        rows = _rows(rows, len(self))
        part = object.__new__(type(self))
        part.family, part.passes, part._units = self.family, self.passes, self._units
        part.samples, part._known = self.samples[:, rows], self._known[rows]
        return part


class _Classes(Moments):
    """Abstract: what predictions of classes have besides their moments."""

    _names = ("mean", "entropy", "expected_entropy", "mutual_information")
    expected_entropy: Any

    @property
    def probabilities(self) -> Array:
        return self.mean

    @property
    def entropy(self) -> Array:
        p = self.mean
        if isinstance(self.family, families.Categorical):
            return _plogp(p).sum(axis=-1)
        return _plogp(p) + _plogp(1.0 - p)

    @property
    def mutual_information(self) -> Array:
        # Never negative, but for rounding.
        return np.maximum(self.entropy - self.expected_entropy, 0.0)


class ClassMoments(_Classes):
    """`Moments` of classes: probabilities, and their entropy split by its source.

    `uq.predict(..., keep_samples=False)` returns it for a family of classes.

    Args:
        mean: Mean probabilities, `(N, ..., K)`.
        aleatoric_variance: Mean of the variances of the passes.
        epistemic_variance: Variance of their means.
        expected_entropy: Mean entropy of the passes, in nats.
        family: Name or object of the family of the passes.
        passes: Number of passes.

    Attributes:
        entropy: Entropy of the mean probabilities.
        expected_entropy: Mean entropy of the passes.
        mutual_information: Their difference: how much the passes disagree.

    Other attributes are those of `Moments`.

    Example:

    >>> even, none = np.full((1, 2), 0.5), np.zeros((1, 2))
    >>> moments = uq.ClassMoments(even, none, even**2, none[:, 0], "categorical", 2)
    >>> round(float(moments.mutual_information[0]), 2)  # log(2)
    0.69
    """

    def __init__(
        self,
        mean: Array,
        aleatoric_variance: Array,
        epistemic_variance: Array,
        expected_entropy: Array,
        family: Identifier,
        passes: int,
    ) -> None:
        super().__init__(mean, aleatoric_variance, epistemic_variance, family, passes)
        self.expected_entropy = to_numpy(expected_entropy)

    def __getitem__(self, rows: Any) -> "ClassMoments":
        rows = _rows(rows, len(self))
        mean, aleatoric, epistemic = (value[rows] for value in self._moments)
        entropy = self.expected_entropy[rows]
        return ClassMoments(
            mean, aleatoric, epistemic, entropy, self.family, self.passes
        )


class ClassPrediction(_Classes, Prediction):
    """The predictive distribution over classes: a mixture over passes.

    ```
    entropy            = H(mean over s of p_s)      total
    expected_entropy   = mean over s of H(p_s)      aleatoric
    mutual_information = entropy - expected_entropy epistemic
    ```

    For a categorical family one value per example; for a Bernoulli family
    one per output, each a question of its own. In nats.

    Args:
        samples: Array `(S, N, ..., K)`: the logits, or the probabilities, of
            every pass.
        family: `"categorical"`, `"bernoulli"`, or the object of such a family.

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

    @functools.cached_property
    def expected_entropy(self) -> Array:  # type: ignore[override]
        def entropy(family, params):
            return mixture.evaluate(family.entropy, params).mean(axis=0)

        return self._each(entropy)

    def _quantiles(self, levels: Array) -> Array:
        if isinstance(self.family, families.Categorical):
            raise NotImplementedError(
                "Classes have no order, and the family 'categorical' no quantiles or "
                "intervals. Use `probabilities` instead."
            )
        p = self.mean[..., None]
        return np.where(np.isnan(p), np.nan, levels > 1.0 - p)

    def crps(self, y: Tensor) -> Array:
        """Brier score `(y - p)^2` of each output of a Bernoulli family.

        Args:
            y: Zeros and ones `(N, ..., D)`, or `(N, ...)` where `D` is 1.

        Returns:
            Array `(N, ..., D)`.

        Raises:
            NotImplementedError: The family is categorical.
        """
        if isinstance(self.family, families.Categorical):
            raise NotImplementedError(
                "Classes have no order, and the family 'categorical' no CRPS. Use "
                "`log_prob` instead."
            )
        return np.square(self._aligned(y) - self.mean)

    def log_prob(self, y: Tensor) -> Array:
        """Log probability of `y` under the mixture, in nats.

        For labels `log(mean over s of p_s(y))`; for probabilities over `K`
        classes the negative cross-entropy to the mean probabilities.

        Args:
            y: Labels, or probabilities, as for the family.

        Returns:
            Array `(N, ...)`.

        Raises:
            ValueError: The shape of `y` does not fit.
        """
        if not isinstance(self.family, families.Categorical):
            return super().log_prob(y)
        log_p = self._each(_log_probabilities)
        y = self._aligned(y)
        outside = ((y < 0) | (y > 1)).any(axis=-1)
        terms = y * np.where(y == 0, 0.0, log_p)
        total = np.where(outside, -np.inf, terms.sum(axis=-1))
        return np.where(self._known, total, np.nan)


def _log_probabilities(family: families.Categorical, params: Array) -> Array:
    """Log of the mean probabilities of all classes, `(n, K)`."""

    terms = mixture.evaluate(family.marginal_log_prob, np.ones_like(params), params)
    return mixture.log_mean_exp(terms)


def _plogp(p: Array) -> Array:
    """`-p log p`, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))


def _rows(rows: Any, count: int) -> Any:
    """An index of rows that keeps the axis: a single number becomes a slice."""
    if isinstance(rows, int | np.integer):
        if not -count <= rows < count:
            raise IndexError(f"Row {rows} of a prediction of {count} example(s)")
        return slice(rows % count, rows % count + 1)
    return rows
