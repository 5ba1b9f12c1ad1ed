"""The base class of all families of distributions."""

import functools
import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers import arguments
from keras_uq_layers import registration
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Seed
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics import monotone_root
from keras_uq_layers.numerics import widen
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.numerics.positive import SCALE_FLOOR


class Family:
    """A family of distributions, read from and written to one tensor.

    A *params* tensor of shape `(..., P * D)` holds, for each batch position,
    the `P` parameters of `D` outputs as blocks of width `D`: for a normal,
    `[loc | scale]`. The values are constrained: a scale is positive and in
    the unit of `y`. A family has no state: it knows how to read such a tensor.

    To write your own family, subclass this class, give it a `name`, name its
    `parameters`, register it with `keras.saving.register_keras_serializable`
    and implement

    - `constrain_parts(*raw, scale_floor)`: real features to parameters,
    - `unconstrain_parts(*parts, scale_floor)`: its inverse,
    - `initial_parts(scale)`: parameters as floats, one for each block, of a
      typical distribution in standardised units (see `target_unit`),
    - `marginal_log_prob(y, params)`, `mean(params)`, `variance(params)`,

    and as many of `cdf`, `quantile`, `crps`, `log_interval_prob`, `affine`,
    `rescale` as exist.
    `quantile` falls back on a root search where there is a `cdf`, and `sample`
    on the quantile of a uniform number. A method that you leave out raises an
    error that names it. Keep each argument of the constructor in an attribute
    of the same name: from these the family is saved and compared. The class
    attributes tell the rest:

    - `lower`, `upper`: the bounds of the support; `closed`: whether they
      belong to it; `discrete`: whether `y` is a whole number; `atoms`:
      whether each finite bound carries a probability of its own;
    - `target_unit`: what `head.adapt(y)` may do to the unit of the target.
      `"affine"` (needs `affine`): shift and rescale it, the parameters then
      live in units where y has mean 0 and standard deviation 1. `"scale"`
      (needs `rescale`): only rescale it, y then has mean 1. None: nothing,
      the parameters have no unit, and `initial_parts` ignores its argument.
    - `independent`: whether the outputs are independent given the params, so
      that `log_prob` is the sum of `marginal_log_prob`;
    - `spread`: which of the `parameters` say how far `y` spreads. A head
      starts with the same value of these for every `x`.

    Then put it through `uq.testing.check_family`.

    Example:

    >>> @keras.saving.register_keras_serializable(package="example")
    ... class Exponential(uq.families.Family):
    ...     name = "exponential"
    ...     parameters = ("mean",)
    ...     lower = 0.0
    ...     target_unit = "scale"
    ...
    ...     def constrain_parts(self, raw, *, scale_floor):
    ...         return (uq.numerics.positive(raw, scale_floor),)
    ...
    ...     def unconstrain_parts(self, mean, *, scale_floor):
    ...         return (uq.numerics.positive_inverse(mean, scale_floor),)
    ...
    ...     def initial_parts(self, scale):
    ...         return (1.0,)
    ...
    ...     def marginal_log_prob(self, y, params):
    ...         (mean,) = self.split(params)
    ...         y = self.align(y, params)
    ...         outside = self.outside_support(y)
    ...         # Made safe first, chosen last: no NaN gradient from outside.
    ...         safe = ops.where(outside, ops.zeros_like(y), y)
    ...         inside = -uq.numerics.divide(safe, mean) - ops.log(mean)
    ...         return ops.where(outside, ops.full_like(inside, -np.inf), inside)
    ...
    ...     def mean(self, params):
    ...         return self.split(params)[0]
    ...
    ...     def variance(self, params):
    ...         return ops.square(self.split(params)[0])
    ...
    ...     def cdf(self, y, params):
    ...         (mean,) = self.split(params)
    ...         y = ops.maximum(self.align(y, params), 0.0)
    ...         return -ops.expm1(-uq.numerics.divide(y, mean))
    ...
    ...     def rescale(self, params, factor):
    ...         return factor * params
    >>> head = uq.DistributionHead(1, family=Exponential())
    >>> head(np.ones((2, 3))).shape[-1]
    1
    >>> uq.testing.check_family(Exponential())
    """

    name = "family"
    parameters: tuple[str, ...] = ()
    lower = -np.inf
    upper = np.inf
    closed = False
    discrete = False
    atoms = False
    independent = True
    spread: tuple[str, ...] = ()
    target_unit: str | None = None
    # Names that `parameterize` takes. The first is the default of a head.
    parameterizations: tuple[str, ...] = ()

    # Layout

    def block_sizes(self, units: int) -> tuple[int, ...]:
        """Widths of the blocks of a params tensor for `units` outputs.

        Args:
            units: Number of outputs `D`.

        Returns:
            Tuple of integers, one for each of `parameters`.
        """
        return (units,) * len(self.parameters)

    def params_size(self, units: int) -> int:
        """Width of the params tensor for `units` outputs: `P * units`.

        Args:
            units: Number of outputs `D`, a positive integer.

        Returns:
            Integer.
        """
        return sum(self.block_sizes(arguments.positive_int("units", units)))

    def units(self, params_size: int | None) -> int:
        """Number of outputs `D` of a params tensor of that width.

        Args:
            params_size: Width of the last axis of a params tensor.

        Returns:
            Integer.

        Raises:
            ValueError: The width is not a multiple of the number of
                parameters of the family.
        """
        count = len(self.parameters)
        if params_size is None or params_size < count or params_size % count:
            raise ValueError(
                f"The last axis of `params` must hold {count} blocks "
                f"({', '.join(self.parameters)}) of equal width for the family "
                f"{self.name!r}. Received: a last axis of size {params_size}"
            )
        return params_size // count

    def split(self, params: Tensor) -> tuple[Tensor, ...]:
        """The parameters, one tensor of shape `(..., D)` each.

        Args:
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tuple of `P` tensors, in the order of `parameters`, float32 or
            wider.

        Raises:
            ValueError: The last axis does not divide into the blocks.
        """
        params = widen(params)
        units = self.units(params.shape[-1] if len(params.shape) else None)
        parts, start = [], 0
        for size in self.block_sizes(units):
            parts.append(params[..., start : start + size])
            start += size
        return tuple(parts)

    def join(self, *parts: Tensor) -> Tensor:
        """Puts parameters together into a params tensor: the inverse of `split`."""
        return ops.concatenate(parts, axis=-1)

    def align(self, y: Tensor, params: Tensor) -> Tensor:
        """Gives `y` the shape `(..., D)` that belongs to `params`.

        Args:
            y: Tensor of shape `(..., D)`, or `(...)` where `D` is 1.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            `y` in the dtype of `params`, float32 or wider, with its last axis
            added where it was missing.

        Raises:
            ValueError: The shapes do not agree. Nothing is broadcast.
        """
        y = ops.convert_to_tensor(y)
        shape = tuple(params.shape)
        units = self.units(shape[-1] if shape else None)
        wanted = (*shape[:-1], units)
        given = tuple(y.shape)
        if units == 1 and len(given) == len(shape) - 1:
            y = ops.expand_dims(y, -1)
        if len(y.shape) != len(wanted) or any(
            a is not None and b is not None and a != b
            for a, b in zip(y.shape, wanted, strict=True)
        ):
            raise ValueError(
                f"`y` must have shape {wanted} to agree with `params` of shape "
                f"{shape}: the family {self.name!r} reads {units} output(s) "
                f"from it. Received: y of shape {given}"
            )
        return ops.cast(y, widen(params).dtype)

    def align_target(self, y: Tensor, params: Tensor) -> Tensor:
        """Gives `y` the shape in which `log_prob` reads it.

        That of `align`, except for a family whose targets are no numbers, such as
        the intervals of `Interval`.
        """
        return self.align(y, params)

    # Support

    def outside_support(self, y: Tensor) -> Tensor:
        """Where `y` cannot occur. A NaN is not outside: it stays a NaN.

        Args:
            y: Float tensor or NumPy array of any shape.

        Returns:
            Booleans of the same shape.
        """
        if self.closed or self.discrete:
            outside = (y < self.lower) | (y > self.upper)
        else:
            outside = (y <= self.lower) | (y >= self.upper)
        if self.discrete:
            floor = np.floor if isinstance(y, np.ndarray) else ops.floor
            outside = outside | (y > floor(y))
        return outside

    def check_target(self, y: Tensor, params: Tensor | None = None) -> None:
        """Raises an error where targets cannot come from this family.

        For concrete values, outside of a graph: `log_prob` of a `y` outside
        the support is `-inf`, with a gradient of 0, and disturbs no other row.

        Args:
            y: Array of targets.
            params: The params tensor beside it, for a family whose support
                depends on its shape: the number of classes.

        Raises:
            ValueError: A value is outside the support; the message counts
                them and shows the first.

        Example:

        >>> uq.families.Gamma().check_target(np.array([1.0, 2.0]))
        """
        array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
        outside, rule = self._target_rule(array, params)
        if np.any(outside):
            count = np.count_nonzero(outside)
            raise ValueError(
                f"`y` must hold {rule} for the family "
                f"{self.name!r}. Received: {count} value(s) outside, the first is "
                f"{array[outside].ravel()[0]} (shape {array.shape})"
            )

    def _target_rule(self, y: Array, params: Tensor | None) -> tuple[Array, str]:
        """Where `y` breaks the rule about targets, and that rule in words."""
        open_, shut = ("[", "]") if self.closed else ("(", ")")
        rule = f"numbers in {open_}{self.lower:g}, {self.upper:g}{shut}"
        if self.discrete:
            rule = f"whole numbers from {self.lower:g}"
        return self.outside_support(y), rule

    def target_numbers(self, y: Tensor, units: int) -> Array:
        """The numbers in a batch of targets, one for each output.

        For what needs their mean and spread before a model is trained, such as
        `adapt` of a head.

        Args:
            y: Targets as `log_prob` takes them: `(..., D)`, or `(...)` where `D`
                is 1.
            units: Number of outputs `D`.

        Returns:
            Float64 array `(N, D)`; NaN where a target, such as an open interval of
            `Interval`, tells no number.

        Raises:
            ValueError: Targets of another width, not finite, or outside of the
                support.

        Example:

        >>> uq.families.Normal().target_numbers(np.array([1.0, 2.0]), 1).tolist()
        [[1.0], [2.0]]
        """
        array = np.asarray(ops.convert_to_numpy(y), dtype="float64")
        if units > 1 and (array.ndim < 2 or array.shape[-1] != units):
            raise ValueError(
                f"`y` must have shape (..., {units}), one column per output. "
                f"Received: y of shape {array.shape}"
            )
        if units == 1 and array.ndim > 1 and array.shape[-1] != 1:
            raise ValueError(
                "`y` must have shape (batch,) or (..., 1) for a head with "
                f"`units=1`. Received: y of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                "`y` must be finite. Received: "
                f"{np.count_nonzero(~np.isfinite(array))} NaN or infinite value(s) "
                f"(shape {array.shape})"
            )
        self.check_target(array)
        return array.reshape(-1, units)

    # From features to parameters

    def constrain(self, features: Tensor, scale_floor: float = SCALE_FLOOR) -> Tensor:
        """Maps real features to params: each in its range, scales above the floor.

        Args:
            features: Tensor of shape `(..., P * D)`, any real values.
            scale_floor: The smallest scale, a non-negative float.

        Returns:
            Params, a tensor of the same shape, float32 or wider.
        """
        parts = self.constrain_parts(*self.split(features), scale_floor=scale_floor)
        return self.join(*parts)

    def parameterize(
        self,
        features: Tensor,
        parameterization: str,
        initial_scale: float,
        scale_floor: float = SCALE_FLOOR,
    ) -> Tensor:
        """Maps real features to params in one of several ways to do so.

        Features of zero give a distribution of the initial scale.

        Args:
            features: Tensor of shape `(..., P * D)`, any real values.
            parameterization: One of `parameterizations`.
            initial_scale: Standard deviation, positive, above the floor.
            scale_floor: The smallest scale, a non-negative float.

        Returns:
            Params, a tensor of the same shape, float32 or wider.
        """
        parts = self.parameterize_parts(
            *self.split(features),
            parameterization=parameterization,
            initial_scale=initial_scale,
            scale_floor=scale_floor,
        )
        return self.join(*parts)

    def initial_features(
        self, units: int, scale: float, scale_floor: float = SCALE_FLOOR
    ) -> Tensor:
        """Features whose params are a typical distribution of about that scale.

        Args:
            units: Number of outputs `D`.
            scale: Standard deviation wanted, positive, above the floor.
            scale_floor: As for `constrain`.

        Returns:
            Tensor of shape `(P * D,)`.
        """
        sizes = self.block_sizes(units)
        parts = [
            ops.full((size,), part, dtype="float32")
            for size, part in zip(sizes, self.initial_parts(scale), strict=True)
        ]
        return self.join(*self.unconstrain_parts(*parts, scale_floor=scale_floor))

    # Type checkers let a subclass name its parts only below such a signature.
    # `options` is `scale_floor`.

    def constrain_parts(self, *raw: Any, **options: Any) -> tuple[Tensor, ...]:
        raise self._not_implemented("constrain_parts")

    def unconstrain_parts(self, *parts: Any, **options: Any) -> tuple[Tensor, ...]:
        raise self._not_implemented("unconstrain_parts")

    def parameterize_parts(self, *raw: Any, **options: Any) -> tuple[Tensor, ...]:
        raise self._not_implemented("parameterize")

    def initial_parts(self, scale: float) -> tuple[float, ...]:
        raise self._not_implemented("initial_parts")

    # What the parameters say

    def log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        """Log density of `y` in nats, summed over the outputs.

        Args:
            y: Tensor of shape `(..., D)`, or `(...)` where `D` is 1.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tensor of shape `(...)`, float32 or wider; `-inf`, with a gradient
            of 0, where `y` is outside the support.

        Raises:
            ValueError: The shapes of `y` and `params` do not agree.
        """
        return ops.sum(self.marginal_log_prob(y, params), axis=-1)

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        """Log density of each output on its own, in nats: `(..., D)`."""
        raise self._not_implemented("log_prob")

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        """Log probability that each output lies between two ends, in nats.

        ```
        log P(lower <= Y <= upper) = log(F(upper) - F(lower))   continuous Y
        ```

        `Interval` calls it, with intervals that hold a part of the support. It
        must be accurate where both `F` are rounded to one number, and 0 with a
        gradient of exactly 0 on the whole line.

        Args:
            lower: Tensor of lower ends `(..., D)`; `-inf`, or below the support:
                no end.
            upper: Tensor of upper ends `(..., D)`, above the lower ones; `inf`,
                or above the support: no end.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tensor of shape `(..., D)`, float32 or wider.
        """
        raise self._not_implemented("log_interval_prob")

    def mean(self, params: Tensor) -> Tensor:
        """Mean of each output, in the unit of `y`: `(..., D)`."""
        raise self._not_implemented("mean")

    def variance(self, params: Tensor) -> Tensor:
        """Variance of each output, in the squared unit of `y`: `(..., D)`."""
        raise self._not_implemented("variance")

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        """Probability of a value up to `y`, for each output: `(..., D)`."""
        raise self._not_implemented("cdf")

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        """`cdf` for a root search, which wants no gradients and calls it often."""
        return self.cdf(y, params)

    def quantile(self, p: Tensor, params: Tensor) -> Tensor:
        """Smallest value up to which a share `p` lies, in the unit of `y`.

        Where a family has no closed form this is a root search in its `cdf`:
        bisection of the bits, to the last one, with the gradient of the
        implicit function; a whole number, without a gradient, where the
        family is discrete.

        Args:
            p: Probability: a float, or a tensor that broadcasts against
                `(..., D)` from the left, such as draws `(S, ..., D)`.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tensor of shape `(..., D)`, broadcast against `p`.
        """
        params = widen(params)
        p, params = self._spread(p, params)
        root = monotone_root(
            lambda y: self._cdf_value(y, params),
            p,
            self.lower,
            self.upper,
            self.discrete,
        )
        if self.discrete:
            return root
        # The gradient of the implicit function: dy = (dp - dF) / f. The
        # parentheses are exactly 0 in value.
        at = self.cdf(root, params)
        density = ops.exp(self.marginal_log_prob(root, params))
        slope = ops.stop_gradient(larger(density, float(finfo(params.dtype).tiny)))
        moved = (p - ops.stop_gradient(p)) - (at - ops.stop_gradient(at))
        inside = ops.isfinite(root)
        return ops.where(inside, root + ops.where(inside, moved / slope, 0.0), root)

    def interval(self, level: float, params: Tensor) -> tuple[Tensor, Tensor]:
        """The central interval of that probability, in the unit of `y`.

        Args:
            level: Probability inside the interval, in (0, 1).
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Two tensors of shape `(..., D)`: the quantiles of
            `(1 - level) / 2` and of `(1 + level) / 2`.

        Raises:
            ValueError: `level` is not inside (0, 1).
            NotImplementedError: The family has no quantiles.

        Example:

        >>> low, high = uq.families.Normal().interval(0.95, np.array([[0.0, 1.0]]))
        >>> round(float(low[0, 0]), 2), round(float(high[0, 0]), 2)
        (-1.96, 1.96)
        """
        tail = 0.5 - 0.5 * arguments.open_probability("level", level)
        params = widen(params)
        # One root search for both ends, where there is one.
        ends = np.reshape([tail, 1.0 - tail], (2, *[1] * len(params.shape)))
        ends = ends.astype(keras.backend.standardize_dtype(params.dtype))
        lower, upper = ops.unstack(self.quantile(ends, params), 2)
        return lower, upper

    def marginals(self, params: Tensor) -> tuple[Tensor, ...]:
        """The parameters of each output on its own, one `(..., D)` for each.

        Where the outputs are not `independent`: `loc` and `scale` of a normal.
        """
        return self.split(params)

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        """The distribution function on NumPy arrays in float64.

        A root search calls it many times, and SciPy is faster at it than the
        tensors. For a discrete family it may be continuous between the whole
        numbers.

        Args:
            y: Array of any shape.
            *parts: An array for each of `parameters`; they broadcast with `y`.

        Returns:
            Array of the broadcast shape.
        """
        y, *equal = np.broadcast_arrays(y, *parts)
        params = np.stack(equal, axis=-1)
        return to_numpy(self.cdf(np.ascontiguousarray(y)[..., None], params))[..., 0]

    def array_quantile(self, p: Array, *parts: Array) -> Array:
        """The quantile on NumPy arrays in float64, where a root search begins.

        Args:
            p: Array of probabilities.
            *parts: An array for each of `parameters`; they broadcast with `p`.

        Returns:
            Array of the broadcast shape.
        """
        p, *equal = np.broadcast_arrays(p, *parts)
        params = np.stack(equal, axis=-1)
        return to_numpy(self.quantile(np.ascontiguousarray(p)[..., None], params))[
            ..., 0
        ]

    def array_ratio(self, count: float, *parts: Array) -> Array:
        """`P(count + 1) / P(count)` of a discrete family, on NumPy arrays.

        Optional: it replaces many calls of `array_cdf` in a sum over counts.
        """
        raise NotImplementedError

    def array_bounds(self, *parts: Array) -> tuple[Array, Array]:
        """Where the distribution function leaves 0 and where it reaches 1.

        Args:
            *parts: A NumPy array for each of `parameters`.

        Returns:
            Two arrays that broadcast with the parts: here `lower` and `upper`.
        """
        return np.full_like(parts[0], self.lower), np.full_like(parts[0], self.upper)

    def in_domain(self, params: Tensor) -> Tensor:
        """Where params are those of a distribution: booleans `(...)`.

        No param may be NaN, and those that `constrain` makes positive must be.

        Args:
            params: Tensor of shape `(..., P * D)`.
        """
        params = widen(params)
        positive = _positive(self, params.shape[-1])
        return ops.all(ops.where(positive, params > 0, params == params), axis=-1)

    def _spread(self, p: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """`p` as `(*shape, D)` and params as `(*shape, P * D)`."""
        units = self.units(params.shape[-1] if len(params.shape) else None)
        p = ops.cast(ops.convert_to_tensor(p), params.dtype)
        leading = ops.shape(params)[:-1]
        p = p * ops.ones((*leading, units), dtype=params.dtype)
        params = params * ops.ones((*ops.shape(p)[:-1], 1), dtype=params.dtype)
        return p, params

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        """Continuous ranked probability score of each output: `(..., D)`.

        In the unit of `y`; smaller is better.
        """
        raise self._not_implemented("crps")

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats: of each output `(..., D)`, or joint `(...)`."""
        raise self._not_implemented("entropy")

    def draw_noise(
        self, shape: Shape, seed: Seed = None, dtype: str = "float32"
    ) -> Tensor:
        """Draws the noise that `sample` turns into a draw; it needs no params.

        Args:
            shape: Shape of the draw.
            seed: Integer or `keras.random.SeedGenerator`.
            dtype: Float dtype.

        Returns:
            Tensor of that shape; here uniform on (0, 1).
        """
        # The quantile of 0 may be infinite.
        smallest = float(finfo(dtype).tiny)
        return _random.uniform(shape, smallest, dtype, seed)

    def sample(
        self,
        params: Tensor,
        sample_shape: Shape = (),
        *,
        seed: Seed = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draws from the distribution, differentiable in `params`.

        A discrete family has no such gradient: there it is 0.

        Args:
            params: Tensor of shape `(..., P * D)`.
            sample_shape: Tuple, put in front of the shape of one draw.
            seed: Integer or `keras.random.SeedGenerator`. Not with `noise`.
            noise: Tensor of shape `(*sample_shape, ..., D)` as `draw_noise`
                makes it, to reuse a draw.

        Returns:
            Tensor of shape `(*sample_shape, ..., D)`.
        """
        if noise is not None and seed is not None:
            raise ValueError("`sample` takes either `seed` or `noise`. Received both.")
        params = widen(params)
        units = self.units(params.shape[-1] if len(params.shape) else None)
        if noise is None:
            noise = self.draw_noise(
                (*sample_shape, *ops.shape(params)[:-1], units),
                seed=seed,
                dtype=keras.backend.standardize_dtype(params.dtype),
            )
        return self.sample_from_noise(ops.cast(noise, params.dtype), params)

    def sample_from_noise(self, noise: Tensor, params: Tensor) -> Tensor:
        """Turns noise into a draw of shape `(*sample_shape, ..., D)`."""
        return self.quantile(noise, params)

    # The unit of the target

    def affine(self, params: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        """Maps params in standardised units to those in the unit of y.

        For a family with `target_unit = "affine"`: the params of
        `shift + factor * Y` where `Y` has these params.

        Args:
            params: Tensor of shape `(..., P * D)`.
            shift: Tensor that broadcasts against `(..., D)`.
            factor: Positive tensor that broadcasts against `(..., D)`.

        Returns:
            Tensor of the shape of `params`.
        """
        raise self._not_implemented("affine")

    def rescale(self, params: Tensor, factor: Tensor) -> Tensor:
        """Params of `factor * Y` where `Y` has these params.

        For a family with `target_unit = "scale"`.

        Args:
            params: Tensor of shape `(..., P * D)`.
            factor: Positive tensor that broadcasts against `(..., D)`.

        Returns:
            Tensor of the shape of `params`.
        """
        raise self._not_implemented("rescale")

    # Saving

    def get_config(self) -> Config:
        """Arguments from which an equal family can be made.

        Read from the attributes that have the names of the arguments of the
        constructor. Override it where an argument is kept in another form.
        """
        # mypy takes the `__hash__` of the objects for that of their class.
        names = _argument_names(type(self))  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: Config) -> "Family":
        return registration.from_config(cls, config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"

    # Errors about what a family lacks. They reach users of a `Prediction` too, so
    # that the hints name quantities and no calls.

    def _missing(self, quantity: str, instead: str | None = None) -> Exception:
        """The quantity does not exist."""
        hint = f" Use {instead} instead." if instead else ""
        return NotImplementedError(f"The family {self.name!r} has no {quantity}.{hint}")

    def _no_closed_form(self, quantity: str, instead: str) -> Exception:
        """The quantity exists, but there is no formula for it."""
        return NotImplementedError(
            f"The {quantity} of the family {self.name!r} has no closed form. "
            f"Use {instead} instead."
        )

    def _not_implemented(self, method: str) -> Exception:
        """The class does not say."""
        return NotImplementedError(
            f"The family {self.name!r} does not implement `{method}`."
        )


@functools.cache
def _argument_names(kind: type[Family]) -> tuple[str, ...]:
    """Of its constructor; a family is hashed, hence asked, many times a prediction."""
    return tuple(inspect.signature(kind).parameters)


@functools.lru_cache(maxsize=64)
def _positive(family: Family, params_size: int) -> Array:
    """Which columns of its params a family makes positive: booleans `(P * D,)`."""
    features = np.full((1, params_size), -50.0, "float32")
    with keras.device("cpu"):
        return to_numpy(family.constrain(features, scale_floor=0.0))[0] > 0.0
