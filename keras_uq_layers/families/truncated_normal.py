import math

import numpy as np
from keras import ops

from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._bounded import BoundedNormal
from keras_uq_layers.numerics import divide
from keras_uq_layers.numerics import within_support
from keras_uq_layers.numerics.division import divide_by_logs
from keras_uq_layers.numerics.division import half_difference
from keras_uq_layers.numerics.division import nan_unless_positive
from keras_uq_layers.numerics.dtypes import between
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.numerics.dtypes import larger
from keras_uq_layers.numerics.dtypes import smaller
from keras_uq_layers.numerics.normal_interval import log_mass_scaled
from keras_uq_layers.numerics.normal_interval import nearest_to_centre
from keras_uq_layers.numerics.normal_interval import normal_log_interval
from keras_uq_layers.numerics.quadrature import gauss_legendre
from keras_uq_layers.numerics.saddle_point import HALF_LOG_TWO_PI
from keras_uq_layers.registration import register

# Nodes of the quadrature.
_NODES = 48
# Stands for an infinite bound in standardised units: all mass is inside, and
# its square does not overflow.
_FAR = 1e6
# Bounds or targets so many scales from the centre are not told apart.
_FARTHEST = 1e10
# So many scales are a width in which no density changes.
_THIN = 1e-25

# Far from the centre the mass between the bounds underflows. All functions below
# compute relative to the density at the point `nearest` to the centre, in
# logarithms. The bounds are floats, infinite ones allowed, in the unit of `y`.


def _log_prob(
    y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float
) -> Tensor:
    """`-inf`, with a gradient of 0, outside of the bounds or 1e10 scales from `loc`."""
    outside = (y < lower) | (y > upper)
    inner = lower if np.isfinite(lower) else (upper if np.isfinite(upper) else 0.0)
    one = ops.ones_like(y * loc * scale)
    lost = outside | _too_far(y, loc, scale)
    for bound in (lower, upper):
        if np.isfinite(bound):
            lost = lost | _too_far(bound * one, loc, scale)
    y, loc = within_support(lost, y, loc, fill=inner)
    (scale,) = within_support(lost, scale)
    low, high = _standardise(loc, scale, lower, upper)
    # Differences of points are taken before they are standardised: far from the
    # centre, the standardised ones agree in all their digits.
    width = None
    if np.isfinite(lower) and np.isfinite(upper):
        width = divide(upper - lower, scale * one)
    nearest, log_mass = log_mass_scaled(low, high, width)
    z = divide(*half_difference(y, loc, scale))
    origin = ops.where(low > 0, lower * one, ops.where(high < 0, upper * one, loc))
    from_nearest = divide(*half_difference(y, origin, scale))
    inside = (
        -(0.5 * from_nearest) * (z + nearest)
        - ops.log(scale)
        - HALF_LOG_TWO_PI
        - log_mass
    )
    return ops.where(lost, ops.full_like(inside, -np.inf), inside)


def _too_far(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Whether `z = (x - loc) / scale` or `z^2 / scale` has left the dtype."""
    difference, half_scale = half_difference(x, loc, scale)
    log_z = ops.log(ops.abs(difference)) - ops.log(half_scale)
    most = 0.9 * math.log(float(finfo(scale.dtype).max))
    return (log_z > math.log(_FARTHEST)) | (2.0 * log_z - ops.log(half_scale) > most)


def _cdf(y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float) -> Tensor:
    """`(Phi(z) - Phi(l)) / (Phi(u) - Phi(l))`, of standardised `y` and bounds."""
    end = -np.inf * ops.ones_like(y)
    # 40 scales below all mass there is none, in any dtype: exp has the slope 0, which
    # must not meet the infinite slope of its argument.
    difference, half_scale = half_difference(between(loc, lower, upper), y, scale)
    y = ops.where(difference > 40.0 * half_scale, end, y)
    return ops.exp(_log_interval(end, y, loc, scale, lower, upper))


def _cdf_value(
    y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float
) -> Tensor:
    """`_cdf` without a gradient, in a tenth of the operations."""
    low, high = _standardise(loc, scale, lower, upper)
    y = between(y, lower, upper)
    z = between((y - loc) / scale, low, high)
    # Far from the centre, a difference of standardised points has lost its digits.
    width = (y - lower) / scale if np.isfinite(lower) else z - low
    whole = (upper - lower) / scale if np.isfinite(upper - lower) else high - low
    left = (upper - y) / scale if np.isfinite(upper) else high - z
    # Two arguments as one tensor: an operation costs more than its numbers.
    nearest, log_mass = log_mass_scaled(
        ops.stack([low, low]), ops.stack([z, high]), ops.stack([width, whole])
    )
    step = ops.where(high < 0, -left, nearest[0] - nearest[1])
    log_ratio = log_mass[0] - log_mass[1] - 0.5 * step * (nearest[0] + nearest[1])
    # More than 1e10 scales from the centre, all mass is at the nearer bound.
    far = (low > _FARTHEST) | (high < -_FARTHEST)
    at_bound = ops.where(low > 0, y > lower, y >= upper)
    at_bound = ops.cast(at_bound, log_ratio.dtype)
    return ops.where(far, at_bound, ops.exp(log_ratio))


def _log_interval(
    first: Tensor, last: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float
) -> Tensor:
    """`log(F(last) - F(first))`, of the ends cut off at the bounds."""
    one = ops.ones_like(first * loc * scale)
    loc, scale = loc * one, nan_unless_positive(scale) * one
    low, high = lower * one, upper * one
    first, last = larger(first * one, lower), smaller(last * one, upper)
    empty, whole = first >= last, (first <= lower) & (last >= upper)
    wanted = ops.logical_not(empty | whole)
    inside = (loc >= lower) & (loc <= upper)
    # The centre is between the bounds, and at least about half of the mass is.
    centre, width = within_support(ops.logical_not(wanted & inside), loc, scale)
    share = normal_log_interval(first, last, centre, width)
    share = share - normal_log_interval(low, high, centre, width)
    # The centre is beyond a bound: mirrored, so that it is below the lower one.
    above = loc > upper
    bounds = ops.where(above, -high, low), ops.where(above, -low, high)
    ends = ops.where(above, -last, first), ops.where(above, -first, last)
    centre = ops.where(above, -loc, loc)
    beyond = wanted & ops.logical_not(inside)
    tail = _log_interval_of_tail(beyond, *ends, centre, scale, *bounds)
    value = ops.where(inside, share, tail)
    value = ops.where(whole, ops.zeros_like(value), value)
    return ops.where(empty, ops.full_like(value, -np.inf), value)


def _log_interval_of_tail(
    wanted: Tensor,
    first: Tensor,
    last: Tensor,
    loc: Tensor,
    scale: Tensor,
    lower: Tensor,
    upper: Tensor,
) -> Tensor:
    """As `_log_interval`, where `loc < lower`: relative to the density at `lower`.

    More than 1e10 scales from `loc`, all mass is at `lower`.
    """
    (lower,) = within_support(ops.logical_not(wanted), lower, fill=0.0)
    far = _too_far(ops.where(wanted, first, lower), loc, scale)
    at_bound = first <= lower
    unused = far | ops.logical_not(wanted)
    first, loc, lower = within_support(unused, first, loc, lower, fill=0.0)
    last, scale, upper = within_support(unused, last, scale, upper)
    # By logarithms: a slope of 0 must not meet an infinite one.
    low = divide_by_logs(*half_difference(lower, loc, scale))
    step = divide_by_logs(*half_difference(first, lower, scale))
    log_part = _log_mass_from(low + step, first, last, scale)
    log_whole = _log_mass_from(low, lower, upper, scale)
    value = log_part - log_whole - (0.5 * step) * (2.0 * low + step)
    zero = ops.zeros_like(value)
    return ops.where(far, ops.where(at_bound, zero, zero - np.inf), value)


def _log_mass_from(z: Tensor, first: Tensor, last: Tensor, scale: Tensor) -> Tensor:
    """`log_mass_scaled` of the ends; the lower one is `z` in standardised units."""
    distance, half_scale = half_difference(last, first, scale)
    wide, thin = distance >= _FAR * half_scale, distance <= _THIN * half_scale
    size = divide_by_logs(ops.where(wide | thin, half_scale, distance), half_scale)
    size = ops.where(wide, _FAR * ops.ones_like(size), size)
    size = ops.where(thin, _THIN * ops.ones_like(size), size)
    # The mass is proportional to so small a width, whose quotient may underflow.
    small = ops.where(thin, larger(distance, float(finfo(z.dtype).tiny)), half_scale)
    rest = ops.log(small) - ops.log(half_scale)
    _, log_mass = log_mass_scaled(z, z + size, size)
    return log_mass + ops.where(thin, rest - math.log(_THIN), ops.zeros_like(rest))


def _crps(y: Tensor, loc: Tensor, scale: Tensor, lower: float, upper: float) -> Tensor:
    """Continuous ranked probability score.

    ```
    crps = scale (|w - z| + z (2 F(z) - 1) + 2 phi(z) / m
         - (Phi(sqrt(2) u) - Phi(sqrt(2) l)) / (sqrt(pi) m^2))
    ```

    with `w` the standardised `y`, `z` its value clipped to `[l, u]` and
    `m = Phi(u) - Phi(l)`.

    Reference:
        Jordan, Krueger & Lerch, 2019, "Evaluating Probabilistic Forecasts
        with scoringRules", J. Stat. Software 90(12), doi:10.18637/jss.v090.i12.
    """
    low, high = _standardise(loc, scale, lower, upper)
    w = divide(*half_difference(y, loc, scale))
    z = smaller(larger(w, low), high)
    nearest, log_mass = log_mass_scaled(low, high)
    root = math.sqrt(2.0)
    _, log_double = log_mass_scaled(root * low, root * high)
    log_density = -(0.5 * (z - nearest)) * (z + nearest) - HALF_LOG_TWO_PI - log_mass
    # Both masses are relative to the density at `nearest`, whose square is
    # the one at sqrt(2) times it.
    spread = ops.exp(log_double - 2.0 * log_mass) / math.sqrt(math.pi)
    value = (
        ops.abs(w - z)
        + z * (2.0 * _cdf(y, loc, scale, lower, upper) - 1.0)
        + 2.0 * ops.exp(log_density)
        - spread
    )
    return scale * value


def moments(
    loc: Tensor, scale: Tensor, lower: float, upper: float
) -> tuple[Tensor, Tensor]:
    """Mean, in the unit of `y`, and variance.

    By quadrature (Gauss-Legendre, 48 nodes over the part of the interval that
    holds the mass): the closed forms are differences of large numbers where
    the bounds cut off a tail.
    """
    low, high = _standardise(loc, scale, lower, upper)
    nearest = nearest_to_centre(low, high)
    # The density falls by exp(-reach) over this distance from `nearest`.
    reach = 120.0
    size = ops.abs(nearest)
    span = reach / (size + ops.sqrt(ops.square(smaller(size, 1e15)) + reach))
    left = larger(low - nearest, -span)
    right = smaller(high - nearest, span)
    nodes, weights = gauss_legendre(_NODES, loc.dtype)
    steps = left[..., None] + (right - left)[..., None] * nodes
    density = weights * ops.exp(-steps * (nearest[..., None] + 0.5 * steps))
    density = density / ops.sum(density, axis=-1, keepdims=True)
    mean = ops.sum(density * steps, axis=-1)
    variance = ops.sum(density * ops.square(steps - mean[..., None]), axis=-1)
    origin = between(loc, lower, upper)
    mean = between(origin + scale * mean, lower, upper)
    return mean, ops.square(scale) * variance


def _standardise(
    loc: Tensor, scale: Tensor, lower: float, upper: float
) -> tuple[Tensor, Tensor]:
    """The bounds in standardised units, the infinite ones replaced by far ones."""
    one = ops.ones_like(loc * scale)
    low, high = -_FAR * one, _FAR * one
    if np.isfinite(lower):
        low = divide(*half_difference(lower * one, loc, scale))
        high = larger(high, low + _FAR)
    if np.isfinite(upper):
        high = divide(*half_difference(upper * one, loc, scale))
        if not np.isfinite(lower):
            low = smaller(low, high - _FAR)
    return low, high


@register("families.TruncatedNormal")
class TruncatedNormal(BoundedNormal):
    """Normal cut off at bounds, with params `[loc | scale]` before the cut.

    ```
    log p(y) = log N(y; loc, scale)
             - log(Phi((upper - loc) / scale) - Phi((lower - loc) / scale))
    ```

    Values outside the bounds are impossible, and do not pile up at them as
    they do for a `CensoredNormal`: wind speeds, concentrations. `mean` and
    `variance` are those of `y`, within the bounds.

    The bounds are in the unit of `y`, also for a head that was adapted: that
    one moves `loc` and `scale` only.

    Args:
        lower: Lower bound, or None for none.
        upper: Upper bound, or None for none.

    Raises:
        ValueError: `lower` is not below `upper`.

    Example:

    >>> family = uq.families.TruncatedNormal(lower=0.0)
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.2258

    Reference:
        Thorarinsdottir & Gneiting, 2010, "Probabilistic forecasts of wind
        speed", JRSS A 173(2), doi:10.1111/j.1467-985X.2009.00616.x.
    """

    name = "truncated_normal"

    def _moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return moments(*self._read(params))

    def marginal_log_prob(self, y: Tensor, params: Tensor) -> Tensor:
        return _log_prob(self.align(y, params), *self._read(params))

    def log_interval_prob(self, lower: Tensor, upper: Tensor, params: Tensor) -> Tensor:
        return _log_interval(lower, upper, *self._read(params))

    def cdf(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf(self.align(y, params), *self._read(params))

    def _cdf_value(self, y: Tensor, params: Tensor) -> Tensor:
        return _cdf_value(self.align(y, params), *self._read(params))

    def array_cdf(self, y: Array, *parts: Array) -> Array:
        from scipy.special import log_ndtr

        loc, scale = parts
        edges = (self.lower, np.clip(y, self.lower, self.upper), self.upper)
        low, z, high = ((edge - loc) / scale for edge in edges)
        # Mirrored to the left tail, where a difference keeps its digits.
        right = low > 0.0
        low, high = np.where(right, -high, low), np.where(right, -low, high)
        z, whole = np.where(right, -z, z), log_ndtr(high)
        before, until = (np.exp(log_ndtr(edge) - whole) for edge in (low, z))
        share = (until - before) / (1.0 - before)
        return np.where(right, 1.0 - share, share)

    def crps(self, y: Tensor, params: Tensor) -> Tensor:
        return _crps(self.align(y, params), *self._read(params))
