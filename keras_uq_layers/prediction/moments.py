"""The moments of a prediction, without its passes."""

import warnings
from typing import Any

import numpy as np

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Identifier
from keras_uq_layers.numerics.dtypes import to_numpy


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
        rows = rows_of(rows, len(self))
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


def rows_of(rows: Any, count: int) -> Any:
    """An index of rows that keeps the axis: a single number becomes a slice."""
    if isinstance(rows, int | np.integer):
        if not -count <= rows < count:
            raise IndexError(f"Row {rows} of a prediction of {count} example(s)")
        return slice(rows % count, rows % count + 1)
    return rows
