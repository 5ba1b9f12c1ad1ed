"""A prediction with all its passes: a mixture."""

import functools
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
from keras_uq_layers.prediction.moments import Moments
from keras_uq_layers.prediction.moments import rows_of


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
        copy: Whether a NumPy array is copied. If not, it must not be changed
            afterwards.

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

    def __init__(
        self, samples: Tensor, family: Identifier, *, copy: bool = True
    ) -> None:
        self.family = families.get(family)
        if copy or not isinstance(samples, np.ndarray):
            samples = np.asarray(ops.convert_to_numpy(samples))
        self.samples = samples
        shape = self.samples.shape
        if len(shape) < 3 or self.samples.size == 0:
            raise ValueError(
                "`samples` must be params of shape (S, N, ..., P * D), with at "
                f"least one pass and one example. Received: samples of shape {shape}"
            )
        self._units = self.family.units(shape[-1])
        self.passes = shape[0]
        flat = self.samples.reshape(shape[0], -1, shape[-1])
        self._known = mixture.known(self.family, flat).reshape(shape[1:-1])
        lost = ~self._known
        # A row of NaN alone is an example without an input.
        lost[lost] = ~np.isnan(self.samples[:, lost]).all(axis=(0, -1))
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
        rows = rows_of(rows, len(self))
        part = object.__new__(type(self))
        part.family, part.passes, part._units = self.family, self.passes, self._units
        part.samples, part._known = self.samples[:, rows], self._known[rows]
        return part
