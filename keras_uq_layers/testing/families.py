"""A harness that any family can be put through, ours and yours."""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import families
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Tensor
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.testing._gradients import value_and_gradients

# Nodes of the trapezoidal rule in the transformed variable.
_NODES = 2001
_LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def check_family(
    family: families.Family,
    *,
    rows: int = 5,
    spread: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> None:
    """Puts a family through what heads, losses and metrics ask of it.

    The checks: the layout of the params (`params_size`, `units`, `split`,
    `join`); the config goes through JSON and back; `constrain` gives finite
    params for features of up to 1e15 and undoes `unconstrain`; `log_prob` is
    never NaN, nor its gradient, `-inf` with a gradient of 0 outside the
    support, and one such row disturbs no other; it integrates to 1; `mean`,
    `variance`, `cdf` and `crps` agree with numerical integrals over it;
    `quantile` inverts `cdf`; draws have the shape asked for, follow the
    `cdf`, and repeat with the same noise; `affine` and `rescale` do what
    `target_unit` says. What a family does not have (`NotImplementedError`) is
    skipped, except for `log_prob` where it has no quantiles either.

    For classes, sums over the labels take the place of integrals.

    The numerical integrals are taken at `rows` params close to those of
    `initial_parts`, so that they are exact to about 1e-4.

    Args:
        family: The family, an object.
        rows: Number of params tensors that are tried.
        spread: Standard deviation of the features around the initial ones.
        draws: Number of draws for each.
        seed: Integer seed of features and draws.

    Raises:
        AssertionError: A check failed; the message says which.

    Example:

    >>> uq.testing.check_family(uq.families.Normal())
    """
    assert isinstance(family, families.Family), f"{family!r} is no `families.Family`"
    _check_layout(family)
    _check_config(family)
    _check_constrain(family, seed)
    if isinstance(family, ClassFamily):
        _check_classes(family, rows, spread, draws, seed)
        return
    params = _typical(family, 1, rows, spread, seed)
    has_density = _exists(family.log_prob, ops.zeros((rows, 1)), params)
    quantiles = _quantiles(family, params)
    assert has_density or quantiles is not None, (
        f"{family!r} has neither a `log_prob` nor a `quantile`"
    )
    if quantiles is not None:
        _check_quantile(family, params, quantiles)
    if has_density:
        _check_safety(family, params)
        if quantiles is not None:
            _check_integrals(family, params, quantiles)
        _check_unit(family, _typical(family, 2, rows, spread, seed), quantiles)
    _check_draws(family, params, quantiles, draws, seed)


def _tensor(array: Any) -> Tensor:
    return ops.convert_to_tensor(np.asarray(array).astype(_dtype()))


def _dtype() -> str:
    """The widest float of the backend: JAX has no float64 unless told so."""
    return keras.backend.standardize_dtype(
        ops.convert_to_tensor(np.zeros(1, "float64")).dtype
    )


def _exists(method: Callable, *args: Any) -> bool:
    try:
        method(*args)
    except NotImplementedError:
        return False
    return True


def _typical(
    family: families.Family, units: int, rows: int, spread: float, seed: int
) -> Tensor:
    offset = to_numpy(family.initial_features(units, 1.0))
    noise = np.random.default_rng(seed).normal(size=(rows, len(offset)))
    features = (offset + spread * noise).astype(_dtype())
    return ops.convert_to_tensor(family.constrain(ops.convert_to_tensor(features)))


def _check_layout(family: families.Family) -> None:
    for units in _units(family):
        size = family.params_size(units)
        assert family.units(size) == units, (
            f"units(params_size({units})) is {family.units(size)}"
        )
        params = ops.convert_to_tensor(np.arange(2.0 * size).reshape(2, size))
        parts = family.split(params)
        assert len(parts) == len(family.parameters), (
            f"`split` gives {len(parts)} parts for `parameters={family.parameters}`"
        )
        np.testing.assert_array_equal(
            to_numpy(family.join(*parts)), to_numpy(params), "`join` must undo `split`"
        )
    try:
        family.units(0)
    except ValueError:
        return
    raise AssertionError("a params tensor of width 0 must be an error")


def _units(family: families.Family) -> range:
    """Numbers of outputs to try: of classes there are at least two."""
    try:
        family.params_size(1)
    except ValueError:
        return range(2, 5)
    return range(1, 4)


def _check_config(family: families.Family) -> None:
    config = json.loads(json.dumps(families.serialize(family)))
    again = families.get(config)
    assert again == family, f"{again!r} comes back from the config of {family!r}"
    assert hash(again) == hash(family), "equal families must have equal hashes"


def _check_constrain(family: families.Family, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = family.params_size(2)
    signs = rng.choice([-1.0, 1.0], size=(200, size))
    wild = (signs * 10 ** rng.uniform(-30, 15, size=(200, size))).astype("float32")
    params = to_numpy(family.constrain(ops.convert_to_tensor(wild)))
    assert np.isfinite(params).all(), "`constrain` must give finite params"
    for floor in (1e-3, 0.1):
        tame = rng.normal(size=(20, size)).astype(_dtype())
        params = family.constrain(ops.convert_to_tensor(tame), floor)
        parts = family.unconstrain_parts(*family.split(params), scale_floor=floor)
        again = family.constrain(family.join(*parts), floor)
        np.testing.assert_allclose(
            to_numpy(again),
            to_numpy(params),
            rtol=1e-4,
            atol=1e-5,
            err_msg="`constrain` must undo `unconstrain_parts`",
        )


def _levels(family: families.Family) -> Array:
    return np.array(getattr(family, "levels", _LEVELS))


def _quantiles(family: families.Family, params: Tensor) -> Array | None:
    """Quantiles at all levels, `(levels, rows, 1)`, or None."""
    p = _levels(family).astype(_dtype())[:, None, None]
    try:
        return to_numpy(family.quantile(p, params))
    except NotImplementedError:
        return None


def _check_quantile(family: families.Family, params: Tensor, quantiles: Array) -> None:
    assert (np.diff(quantiles, axis=0) >= 0).all(), "`quantile` must not decrease"
    if not _exists(family.cdf, _tensor(quantiles[0]), params):
        return
    tolerance = 1e-4
    without_spread = _exists(family.variance, params) and np.all(
        to_numpy(family.variance(params)) == 0.0
    )
    value, levels = quantiles[..., 0].T, _levels(family)
    reached = _pairwise(family.cdf, value, params)
    step = 1.0 if family.discrete else 1e-3 * np.maximum(np.abs(value), 1e-3)
    before = _pairwise(family.cdf, value - step, params)
    jump = (
        family.discrete
        | without_spread
        | (value <= family.lower)
        | (value >= family.upper)
    )
    exact = np.abs(reached - levels) < tolerance
    crossed = (reached > levels - tolerance) & (before < levels + tolerance)
    good = (exact | (jump & crossed)).all(axis=0)
    assert good.all(), f"cdf(quantile({levels[~good]})) is {reached[:, ~good]}"


def _gradients(function: Callable, *arrays: Any) -> list[Array]:
    """Gradients of the sum of `function(*arrays)`."""
    _, found = value_and_gradients(
        lambda tensors: ops.sum(function(*tensors)),
        [ops.convert_to_tensor(a) for a in arrays],
    )
    pairs = zip(arrays, found, strict=True)
    return [np.zeros(a.shape) if g is None else g for a, g in pairs]


def _check_classes(
    family: ClassFamily, rows: int, spread: float, draws: int, seed: int
) -> None:
    units = _units(family)[1]
    params = _typical(family, units, rows, spread, seed)
    p = to_numpy(family.mean(params))
    assert ((p >= 0) & (p <= 1)).all(), f"`mean` must hold probabilities, not {p}"
    # The outcomes of one position: yes or no for each output, or one class of all.
    outcomes = np.stack([np.zeros(units), np.ones(units)])
    if not family.independent:
        outcomes = np.eye(units)
        assert np.allclose(p.sum(axis=-1), 1.0, atol=1e-5), "`mean` must add up to 1"
    tables = [_tensor(np.tile(outcome, (rows, 1))) for outcome in outcomes]
    terms = np.stack([to_numpy(family.marginal_log_prob(y, params)) for y in tables])
    if not family.independent:
        terms = terms.sum(axis=-1)
    expected = np.stack([1.0 - p, p]) if family.independent else p.T
    _check_close(np.exp(terms), expected, "`log_prob` must agree with `mean`")
    variance = to_numpy(family.variance(params))
    _check_close(variance, p * (1.0 - p), "`variance` must be that of zeros and ones")
    if _exists(family.entropy, params):
        entropy = -(np.exp(terms) * terms).sum(axis=0)
        got = to_numpy(family.entropy(params))
        _check_close(got, entropy, "`entropy` must be the mean of `-log_prob`")
    confidence, right = map(to_numpy, family.top_label(tables[-1], params))
    assert (confidence >= 1.0 / (units + 1)).all(), "`top_label` must be the likely one"
    assert np.isin(right, (0.0, 1.0)).all(), "a label is right or wrong"
    _check_class_safety(family, to_numpy(params))
    sample = to_numpy(family.sample(params, (draws,), seed=seed))
    assert sample.shape == (draws, *p.shape), f"`sample` has shape {sample.shape}"
    error = 5 * np.sqrt(p * (1.0 - p) / draws) + 1e-3
    assert (np.abs(sample.mean(axis=0) - p) < error).all(), (
        "draws must follow the probabilities of `mean`"
    )


def _check_close(got: Array, expected: Array, message: str) -> None:
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5, err_msg=message)


def _check_class_safety(family: ClassFamily, params: Array) -> None:
    """One row whose target is no class, between two that have one."""
    good, bad = np.zeros(params.shape[-1]), np.full(params.shape[-1], -1.0)
    good[0] = 1.0
    y, three = np.stack([good, bad, good]), np.repeat(params[:1], 3, axis=0)
    value = to_numpy(family.log_prob(_tensor(y), _tensor(three)))
    assert value[1] == -np.inf, "`log_prob` must be -inf for what is no class"
    assert np.isfinite(value[::2]).all(), "`log_prob` must be finite for a class"
    gradient = _gradients(lambda p: family.log_prob(_tensor(y), p), _tensor(three))[0]
    assert (gradient[1] == 0).all(), "the gradient must be 0 for what is no class"
    assert np.isfinite(gradient).all(), "the gradient of `log_prob` must be finite"


def _check_safety(family: families.Family, params: Tensor) -> None:
    params = to_numpy(params).astype("float32")
    rng = np.random.default_rng(1)
    # One row per target: each typical params with each target.
    targets = np.concatenate(
        [
            [0.0, -0.0, 1.0, 0.5, 2.0, -1.0, 1e-30, 3e37, -3e37],
            rng.choice([-1.0, 1.0], 40) * 10 ** rng.uniform(-6, 6, 40),
            np.round(10 ** rng.uniform(0, 6, 10)),
        ]
    ).astype("float32")
    y = np.tile(targets, len(params))[:, None]
    params = np.repeat(params, len(targets), axis=0)
    value = to_numpy(family.log_prob(ops.convert_to_tensor(y), params))
    assert not np.isnan(value).any(), f"`log_prob` is NaN at y={y[np.isnan(value)]}"
    assert (value < np.inf).all(), f"`log_prob` is inf at y={y[value == np.inf]}"
    gradients = _gradients(family.log_prob, y, params)
    for gradient in gradients:
        bad = np.isnan(gradient).any(axis=-1)
        assert not bad.any(), f"the gradient of `log_prob` is NaN at y={y[bad]}"
    outside = np.asarray(family.outside_support(y.astype("float64")))[:, 0]
    assert (value[outside] == -np.inf).all(), (
        "`log_prob` must be -inf outside of the support, here it is finite at "
        f"y={y[outside & np.isfinite(value)]}"
    )
    for gradient in gradients:
        assert (gradient[outside] == 0).all(), (
            "the gradient of `log_prob` must be 0 outside of the support"
        )
    near = np.abs(y[:, 0]) < 100
    if not family.discrete:
        inside = near & (np.abs(y[:, 0]) > 1e-3) & ~outside
        assert np.isfinite(value[inside]).all(), (
            "`log_prob` must be finite inside of the support"
        )


def _grid(family: families.Family, quantiles: Array) -> tuple[Array, Array]:
    """Points and weights, `(rows, nodes)`: integrals over the support."""
    centre = quantiles[len(quantiles) // 2]
    width = quantiles[-2] - quantiles[1]
    if family.discrete:
        top = np.ceil((centre + 60.0 * (width + 2.0)).max())
        y = np.tile(np.arange(min(top, 20000.0)), (len(centre), 1))
        return y, np.ones_like(y)
    low, high = np.isfinite(family.lower), np.isfinite(family.upper)
    if low and high:
        t, step = np.linspace(-4.0, 4.0, _NODES, retstep=True)
        # The sigmoid without a cancellation at either end.
        share = 1.0 / (1.0 + np.exp(-np.sinh(t)))
        size = family.upper - family.lower
        y = family.lower + size * share
        weight = size * share * (1.0 - share) * np.cosh(t)
        return np.tile(y, (len(centre), 1)), np.tile(weight * step, (len(centre), 1))
    if low or high:
        t, step = np.linspace(-4.5, 4.0, _NODES, retstep=True)
        distance = np.exp(np.sinh(t)) * np.maximum(width, 1e-3)
        weight = distance * np.cosh(t) * step
        y = family.lower + distance if low else family.upper - distance
        return y, weight
    t, step = np.linspace(-15.0, 15.0, _NODES, retstep=True)
    return centre + width * np.sinh(t), width * np.cosh(t) * step


def _pairwise(method: Callable, y: Array, params: Tensor) -> Array:
    """`method` at each point of `(rows, nodes)`, for the params of its row."""
    rows, nodes = y.shape
    repeated = ops.repeat(params, nodes, axis=0)
    flat = ops.convert_to_tensor(y.reshape(-1, 1).astype(_dtype()))
    return to_numpy(method(flat, repeated)).reshape(rows, nodes)


def _check_integrals(family: families.Family, params: Tensor, quantiles: Array) -> None:
    y, weight = _grid(family, quantiles)
    # In the dtype of the density: a rounded point is another point.
    y = y.astype(_dtype()).astype("float64")
    mass = np.exp(_pairwise(family.log_prob, y, params)) * weight
    bounds = [b for b in (family.lower, family.upper) if np.isfinite(b)]
    if family.closed and family.atoms:
        # Points on the bound itself carry the probability of the bound.
        mass = np.where(np.isin(y, bounds), 0.0, mass)
        at_bounds = np.tile(bounds, (len(y), 1))
        point = np.exp(_pairwise(family.log_prob, at_bounds, params))
        y = np.concatenate([y, at_bounds], axis=1)
        mass = np.concatenate([mass, point], axis=1)
        weight = np.concatenate([weight, np.zeros_like(point)], axis=1)
    total = mass.sum(axis=1)
    # A kink in the density costs the trapezoidal rule some digits.
    tolerance = 5e-4 if _dtype() == "float64" else 2e-3
    np.testing.assert_allclose(
        total, 1.0, rtol=tolerance, err_msg="`log_prob` must integrate to 1"
    )
    mean = (mass * y).sum(axis=1) / total
    variance = (mass * (y - mean[:, None]) ** 2).sum(axis=1) / total
    unit = np.sqrt(variance)
    if _exists(family.mean, params):
        error = np.abs(to_numpy(family.mean(params))[:, 0] - mean) / unit
        assert (error < 10 * tolerance).all(), (
            f"`mean` is off by {error.max():.2g} standard deviations"
        )
    if _exists(family.variance, params):
        ratio = to_numpy(family.variance(params))[:, 0] / variance
        # Heavy tails: the square is integrated only as far as the grid goes.
        assert (np.abs(ratio - 1) < 100 * tolerance).all(), (
            f"`variance` is off by the factors {ratio}"
        )
    if not _exists(family.cdf, ops.convert_to_tensor(y[:, :1]), params):
        return
    order = np.argsort(y, axis=1, kind="stable")
    y, mass, weight = (np.take_along_axis(a, order, axis=1) for a in (y, mass, weight))
    smooth = not (family.discrete or family.atoms)
    summed = np.cumsum(mass, axis=1) - (0.5 * mass if smooth else 0.0)
    cdf = _pairwise(family.cdf, y, params)
    # Rounded points on a bound: which part of its mass is summed is open.
    off = np.abs(np.where(np.isin(y, bounds), 0.0, cdf - summed)).max()
    assert off < 30 * tolerance, (
        f"`cdf` is off the integral of the density by {off:.2g}"
    )
    _check_crps(family, params, y, weight, cdf, unit, tolerance)


def _check_crps(
    family: families.Family,
    params: Tensor,
    y: Array,
    weight: Array,
    cdf: Array,
    unit: Array,
    tolerance: float,
) -> None:
    columns = np.array(
        [[np.searchsorted(row, level) for level in (0.1, 0.6)] for row in cdf]
    )
    targets = np.take_along_axis(y, np.minimum(columns, y.shape[1] - 1), axis=1)
    if not _exists(family.crps, _tensor(targets[:, :1]), params):
        return
    found = _pairwise(family.crps, targets, params)
    for target, got in zip(targets.T[..., None], found.T, strict=True):
        if family.discrete:
            # The cdf is constant from each whole number to the next.
            squares = np.where(y < target, cdf, 1.0 - cdf) ** 2
        else:
            squares = 0.5 * (
                np.where(y < target, cdf, 1.0 - cdf) ** 2
                + np.where(y <= target, cdf, 1.0 - cdf) ** 2
            )
        expected = (squares * weight).sum(axis=1)
        error = np.abs(got - expected) / unit
        assert (error < 30 * tolerance).all(), (
            f"`crps` is off its integral by {error.max():.2g} standard deviations"
        )


def _check_unit(
    family: families.Family, params: Tensor, quantiles: Array | None
) -> None:
    assert family.target_unit in (None, "affine", "scale"), (
        f"`target_unit` is {family.target_unit!r}"
    )
    if family.target_unit is None:
        return
    factor = ops.convert_to_tensor(np.array([0.5, 3.0], _dtype()))
    shift = ops.convert_to_tensor(np.array([-2.0, 1.0], _dtype()))
    free = not (np.isfinite(family.lower) or np.isfinite(family.upper))
    if family.target_unit == "affine":
        moved = family.affine(params, shift, factor)
        if not free:
            return  # the bounds stay where they are
    else:
        shift = ops.zeros_like(shift)
        moved = family.rescale(params, factor)
    # Any point of the support will do.
    if quantiles is None:
        y = family.sample(params, seed=0)
    else:
        y = _tensor(np.repeat(quantiles[len(quantiles) // 2], 2, axis=-1))
    there = to_numpy(family.log_prob(shift + factor * y, moved))
    here = to_numpy(family.log_prob(y, params)) - np.log(to_numpy(factor)).sum()
    np.testing.assert_allclose(
        there,
        here,
        rtol=1e-3,
        atol=1e-3,
        err_msg=f"`{'affine' if free else 'rescale'}` must move the density with y",
    )


def _check_draws(
    family: families.Family,
    params: Tensor,
    quantiles: Array | None,
    draws: int,
    seed: int,
) -> None:
    rows = len(to_numpy(params))
    # Each number twice, in one call: a root search takes long.
    noise = to_numpy(family.draw_noise((3, rows, 1), seed=seed))
    twice = _tensor(np.concatenate([noise, noise]))
    try:
        first, second = np.split(to_numpy(family.sample(params, (6,), noise=twice)), 2)
    except NotImplementedError:
        return
    np.testing.assert_array_equal(first, second, "the same noise, the same draw")
    sample = to_numpy(family.sample(params, (draws,), seed=seed))
    assert sample.shape == (draws, rows, 1), (
        f"`sample` has shape {sample.shape}, expected {(draws, rows, 1)}"
    )
    assert np.isfinite(sample).all(), "draws must be finite"
    outside = np.asarray(family.outside_support(sample))
    assert not outside.any(), f"draws outside of the support: {sample[outside][:3]}"
    if quantiles is None or not _exists(family.cdf, _tensor(quantiles[0]), params):
        return
    expected = _pairwise(family.cdf, quantiles[..., 0].T, params).T[..., None]
    for level, point, share in zip(_levels(family), quantiles, expected, strict=True):
        found = (sample <= point).mean(axis=0)
        error = 5 * np.sqrt(share * (1 - share) / draws) + 1e-3
        assert (np.abs(found - share) < error).all(), (
            f"a share {found.ravel()} of the draws lies below the quantile {level}, "
            f"whose probability is {share.ravel()}"
        )
