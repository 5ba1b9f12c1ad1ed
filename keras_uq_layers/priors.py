"""Priors: independent distributions of the weights before data are seen."""

import math
import numbers
from collections.abc import Callable
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers._weight_distribution import WeightDistribution
from keras_uq_layers._weight_distribution import look_up
from keras_uq_layers.numerics import normal_log_prob
from keras_uq_layers.numerics import positive
from keras_uq_layers.numerics import positive_inverse
from keras_uq_layers.registration import register

__all__ = ["NormalPrior", "Prior", "ScaleMixturePrior", "get_prior"]

INITIAL_WEIGHTS = "initial_weights"

_SCALE_FLOOR = 1e-6


class Prior(WeightDistribution):
    """Abstract: a distribution shared by all weights of one kind.

    ```
    p(w) = p0(w - loc)
    ```

    A subclass gives `centered_kl`, the KL to `p0`, whose centre is 0. A prior
    whose KL has a closed form needs only the means and the marginal scales of
    the posterior. Any other prior sets `needs_draw` and gets draws.

    Args:
        loc: Centre of the prior. A number; an array of the shape of the
            weight; or `"initial_weights"`, the values that the posterior means
            have when the layer is built. The last two become weights of the
            layer that are not trained. So a saved file holds them. The config
            does not: an array is `"initial_weights"` there.

    Raises:
        ValueError: `loc` is none of these, or not finite.
    """

    needs_draw = False

    def __init__(self, loc: float | str | Array = 0.0):
        self.loc = _check_loc(loc)
        self._locs: dict[str, keras.Variable] = {}

    def build(
        self,
        add_weight: Callable[..., keras.Variable],
        name: str,
        means: dict[str, keras.Variable],
    ) -> None:
        """Creates the weights of the prior, if any, in a layer.

        Args:
            add_weight: The layer's `add_weight`.
            name: What the names of the weights begin with.
            means: Dict from the name of a random weight with this prior to the
                variable that holds its posterior mean.

        Raises:
            ValueError: `loc` is an array of another shape than a weight.
        """
        if isinstance(self.loc, float):
            return
        self._locs = {
            weight: add_weight(
                name=f"{weight.replace('/', '_')}_prior_loc",
                shape=mean.shape,
                initializer=self._initial_loc(weight, mean),
                trainable=False,
            )
            for weight, mean in means.items()
        }

    def _initial_loc(self, weight: str, mean: keras.Variable) -> Callable[..., Tensor]:
        if isinstance(self.loc, str):
            # A copy: on PyTorch and JAX the two variables would share memory.
            return lambda shape, dtype: ops.cast(ops.copy(mean), dtype)
        if np.shape(self.loc) != tuple(mean.shape):
            raise ValueError(
                f"`loc` must be a number, {INITIAL_WEIGHTS!r} or an array of the "
                f"shape of the weight {weight!r}, {tuple(mean.shape)}. A bias with "
                "a centre of its own has a prior of its own. Received: loc of "
                f"shape {np.shape(self.loc)}"
            )
        return lambda shape, dtype: ops.convert_to_tensor(self.loc, dtype)

    def center(self, means: dict[str, keras.Variable]) -> None:
        """Moves the locs that are weights of the layer to the posterior means.

        Args:
            means: As for `build`.
        """
        for weight, loc in self._locs.items():
            loc.assign(ops.copy(means[weight]))

    def kl(
        self,
        locs: dict[str, Tensor],
        scale: Tensor,
        draws: dict[str, Tensor] | None,
    ) -> Tensor:
        """KL of independent normals to this prior, in nats: a scalar.

        Args:
            locs: Dict from the name of a weight to its posterior means.
            scale: Their marginal posterior standard deviations, one weight after
                the other: a tensor `(n,)`.
            draws: Dict from that name to a draw from the posterior where
                `needs_draw`, else None.

        Raises:
            ValueError: The prior needs draws, and there are none.
        """
        if draws is not None:
            draws = self._centered(draws)
        elif self.needs_draw:
            wanted = f"given for {type(self).__name__}, whose KL has no closed form"
            raise arguments.error("draws", wanted, draws)
        return self.centered_kl(self._centered(locs), scale, draws)

    def _centered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(self.loc, float) and self.loc == 0.0:
            return tensors
        return {
            # A prior that is in no layer has its array alone.
            name: tensor - ops.cast(self._locs.get(name, self.loc), tensor.dtype)
            for name, tensor in tensors.items()
        }

    def centered_kl(
        self,
        locs: dict[str, Tensor],
        scale: Tensor,
        draws: dict[str, Tensor] | None,
    ) -> Tensor:
        """As `kl`, for means and draws from which the prior's loc is subtracted."""
        raise NotImplementedError

    def copy(self) -> Self:
        other = super().copy()
        other.loc = self.loc  # the config does not hold an array
        return other

    def get_config(self) -> Config:
        return {"loc": self.loc if isinstance(self.loc, float) else INITIAL_WEIGHTS}


def _check_loc(loc: Any) -> float | str | Array:
    if isinstance(loc, str) and loc == INITIAL_WEIGHTS:
        return loc
    if isinstance(loc, numbers.Real) and not isinstance(loc, bool):
        if math.isfinite(loc):
            return float(loc)
    elif np.ndim(loc) > 0 and not isinstance(loc, str):
        array = ops.convert_to_numpy(loc)
        if np.issubdtype(array.dtype, np.number) and np.isfinite(array).all():
            return array
    raise arguments.error(
        "loc", f"a finite number, an array of them or {INITIAL_WEIGHTS!r}", loc
    )


@register("priors.NormalPrior")
class NormalPrior(Prior):
    """Independent normals. The KL has a closed form.

    ```
    p(w) = N(w; loc, scale)
    ```

    Args:
        scale: Standard deviation, a positive float.
        trainable_scale: Whether the scale is learned (empirical Bayes):
            training then starts at `scale` and maximises the evidence lower
            bound.
        loc: Mean. A number; an array of the shape of the weight; or
            `"initial_weights"`, the values that the posterior means have when
            the layer is built. The last two become weights of the layer that
            are not trained: a saved file holds them, the config does not.
            `uq.to_bayesian` uses them for the weights of a trained model.

    Raises:
        ValueError: `scale` is not positive and finite, or `loc` is none of
            these.

    Example:

    >>> uq.DenseVariational(4, kl_weight=0.01, prior=uq.priors.NormalPrior(0.5)).prior
    NormalPrior(scale=0.5, trainable_scale=False, loc=0.0)

    References:
        MacKay, 1992, "A Practical Bayesian Framework for Backpropagation
        Networks", Neural Computation 4(3), doi:10.1162/neco.1992.4.3.448.
        Krishnan, Subedar & Tickoo, 2020, "Specifying Weight Priors in Bayesian
        Deep Neural Networks with Empirical Bayes", AAAI, arXiv:1906.05323.
    """

    name = "normal"

    def __init__(
        self,
        scale: float = 1.0,
        trainable_scale: bool = False,
        *,
        loc: float | str | Array = 0.0,
    ):
        super().__init__(loc)
        self.initial_scale = arguments.positive_float("scale", scale)
        self.trainable_scale = arguments.boolean("trainable_scale", trainable_scale)

    def build(
        self,
        add_weight: Callable[..., keras.Variable],
        name: str,
        means: dict[str, keras.Variable],
    ) -> None:
        super().build(add_weight, name, means)
        if self.trainable_scale:
            self._raw_scale = add_weight(
                name=f"{name}_raw_scale",
                shape=(),
                initializer=lambda shape, dtype: positive_inverse(
                    ops.full(shape, self.initial_scale, dtype), _SCALE_FLOOR
                ),
            )

    @property
    def scale(self) -> float | Tensor:
        """The standard deviation in force, a float or a scalar tensor."""
        if self.trainable_scale:
            return positive(ops.convert_to_tensor(self._raw_scale), _SCALE_FLOOR)
        return self.initial_scale

    def centered_kl(
        self,
        locs: dict[str, Tensor],
        scale: Tensor,
        draws: dict[str, Tensor] | None,
    ) -> Tensor:
        # `sum(normal_kl(loc, scale, 0, prior_scale))` in fewer passes over the
        # weights, of which a layer may have millions, and without one vector of all
        # means: XLA would write a slow loop for it. The terms of the scales are added
        # before the sum: where posterior and prior agree, each is 0 up to rounding.
        prior_scale = self.scale
        log = ops.log if self.trainable_scale else math.log
        half, offset = 0.5 / (prior_scale * prior_scale), log(prior_scale) - 0.5
        of_scales = ops.sum(half * (scale * scale) - ops.log(scale) + offset)
        return of_scales + half * sum(ops.sum(loc * loc) for loc in locs.values())

    def get_config(self) -> Config:
        return {
            "scale": self.initial_scale,
            "trainable_scale": self.trainable_scale,
            **super().get_config(),
        }


@register("priors.ScaleMixturePrior")
class ScaleMixturePrior(Prior):
    """A mixture of a wide and a narrow normal with the same mean.

    ```
    p(w) = weight * N(w; loc, wide_scale) + (1 - weight) * N(w; loc, narrow_scale)
    ```

    It lets most weights be close to `loc` and some be far from it. The KL has no closed
    form. It is estimated by Monte Carlo with one draw per forward pass, so it
    is noisy and may be negative.

    Args:
        weight: Weight of the wide component, inside (0, 1).
        wide_scale: Standard deviation of the wide component.
        narrow_scale: Standard deviation of the narrow one, below it.
        loc: Mean of both, as for `NormalPrior`.

    Raises:
        ValueError: A scale is not positive, `narrow_scale` is not below
            `wide_scale`, `weight` is not inside (0, 1), or `loc` is none of
            those that `NormalPrior` takes.

    Example:

    >>> uq.priors.ScaleMixturePrior(narrow_scale=0.01)
    ScaleMixturePrior(weight=0.5, wide_scale=1.0, narrow_scale=0.01, loc=0.0)

    References:
        Blundell et al., 2015, "Weight Uncertainty in Neural Networks", ICML,
        arXiv:1505.05424, section 3.3.
    """

    name = "scale_mixture"
    needs_draw = True

    def __init__(
        self,
        weight: float = 0.5,
        wide_scale: float = 1.0,
        narrow_scale: float = 0.1,
        *,
        loc: float | str | Array = 0.0,
    ):
        super().__init__(loc)
        self.weight = arguments.open_probability("weight", weight)
        self.wide_scale = arguments.positive_float("wide_scale", wide_scale)
        self.narrow_scale = arguments.positive_float("narrow_scale", narrow_scale)
        if self.narrow_scale >= self.wide_scale:
            raise arguments.error(
                "narrow_scale", f"below `wide_scale={wide_scale}`", narrow_scale
            )

    def centered_kl(
        self,
        locs: dict[str, Tensor],
        scale: Tensor,
        draws: dict[str, Tensor] | None,
    ) -> Tensor:
        assert draws is not None  # `kl` has checked it
        # The entropy of the posterior has a closed form. Only the other term
        # is estimated from the draw.
        entropy = ops.log(scale) + 0.5 * math.log(2.0 * math.pi * math.e)
        log_prior = sum(ops.sum(self._log_prob(draw)) for draw in draws.values())
        return -log_prior - ops.sum(entropy)

    def _log_prob(self, centered: Tensor) -> Tensor:
        narrow_weight = math.log1p(-self.weight)
        return ops.logaddexp(
            math.log(self.weight) + normal_log_prob(centered, 0.0, self.wide_scale),
            narrow_weight + normal_log_prob(centered, 0.0, self.narrow_scale),
        )

    def get_config(self) -> Config:
        return {
            "weight": self.weight,
            "wide_scale": self.wide_scale,
            "narrow_scale": self.narrow_scale,
            **super().get_config(),
        }


def get_prior(identifier: Identifier, argument: str = "prior") -> Prior:
    """A fresh prior from a name, an object or its serialized form.

    Args:
        identifier: `"normal"`, `"scale_mixture"`, or a `Prior`, of which a
            copy without weights is returned.
        argument: Name of the argument, for the error.

    Returns:
        A `Prior`.

    Raises:
        ValueError: No such prior; the message lists the names.
    """
    return look_up(argument, identifier, Prior, (NormalPrior, ScaleMixturePrior))


_namespace.define(__name__)
