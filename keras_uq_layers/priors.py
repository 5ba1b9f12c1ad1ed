"""Priors: independent distributions of the weights before data are seen."""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_uq_layers import _namespace
from keras_uq_layers import arguments
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

_SCALE_FLOOR = 1e-6


class Prior(WeightDistribution):
    """Abstract: a distribution shared by all weights of one kind.

    A prior whose KL has a closed form needs only the means and the marginal
    scales of the posterior. Any other prior sets `needs_draw` and gets a draw.
    """

    needs_draw = False

    def build(self, add_weight: Callable[..., keras.Variable], name: str) -> None:
        """Creates the weights of the prior, if any, in a layer."""

    def kl(self, loc: Tensor, scale: Tensor, draw: Tensor | None) -> Tensor:
        """KL of independent normals to this prior, in nats: a scalar.

        Args:
            loc: Posterior means, a tensor of any shape.
            scale: Marginal posterior standard deviations, of that shape.
            draw: A draw from the posterior where `needs_draw`, else None.
        """
        raise NotImplementedError


@register("priors.NormalPrior")
class NormalPrior(Prior):
    """Independent normals with mean 0. The KL has a closed form.

    ```
    p(w) = N(w; 0, scale)
    ```

    Args:
        scale: Standard deviation, a positive float.
        trainable_scale: Whether the scale is learned (empirical Bayes):
            training then starts at `scale` and maximises the evidence lower
            bound.

    Raises:
        ValueError: `scale` is not positive and finite.

    Example:

    >>> uq.DenseVariational(4, kl_weight=0.01, prior=uq.priors.NormalPrior(0.5)).prior
    NormalPrior(scale=0.5, trainable_scale=False)

    References:
        MacKay, 1992, "A Practical Bayesian Framework for Backpropagation
        Networks", Neural Computation 4(3), doi:10.1162/neco.1992.4.3.448.
    """

    name = "normal"

    def __init__(self, scale: float = 1.0, trainable_scale: bool = False):
        self.initial_scale = arguments.positive_float("scale", scale)
        self.trainable_scale = arguments.boolean("trainable_scale", trainable_scale)

    def build(self, add_weight: Callable[..., keras.Variable], name: str) -> None:
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

    def kl(self, loc: Tensor, scale: Tensor, draw: Tensor | None) -> Tensor:
        # `sum(normal_kl(loc, scale, 0, prior_scale))` in fewer passes over the
        # weights, of which a layer may have millions. The terms are added
        # before the sum: where posterior and prior agree, each is exactly 0.
        prior_scale = self.scale
        log = ops.log if self.trainable_scale else math.log
        inverse, offset = 1.0 / prior_scale, log(prior_scale) - 0.5
        squares = ops.square(loc * inverse) + ops.square(scale * inverse)
        return ops.sum(0.5 * squares - ops.log(scale) + offset)

    def get_config(self) -> Config:
        return {
            "scale": self.initial_scale,
            "trainable_scale": self.trainable_scale,
        }


@register("priors.ScaleMixturePrior")
class ScaleMixturePrior(Prior):
    """A mixture of a wide and a narrow normal with mean 0.

    ```
    p(w) = weight * N(w; 0, wide_scale) + (1 - weight) * N(w; 0, narrow_scale)
    ```

    It lets most weights be close to 0 and some be large. The KL has no closed
    form. It is estimated by Monte Carlo with one draw per forward pass, so it
    is noisy and may be negative.

    Args:
        weight: Weight of the wide component, inside (0, 1).
        wide_scale: Standard deviation of the wide component.
        narrow_scale: Standard deviation of the narrow one, below it.

    Raises:
        ValueError: A scale is not positive, `narrow_scale` is not below
            `wide_scale`, or `weight` is not inside (0, 1).

    Example:

    >>> uq.priors.ScaleMixturePrior(narrow_scale=0.01)
    ScaleMixturePrior(weight=0.5, wide_scale=1.0, narrow_scale=0.01)

    References:
        Blundell et al., 2015, "Weight Uncertainty in Neural Networks", ICML,
        arXiv:1505.05424, section 3.3.
    """

    name = "scale_mixture"
    needs_draw = True

    def __init__(
        self, weight: float = 0.5, wide_scale: float = 1.0, narrow_scale: float = 0.1
    ):
        self.weight = arguments.open_probability("weight", weight)
        self.wide_scale = arguments.positive_float("wide_scale", wide_scale)
        self.narrow_scale = arguments.positive_float("narrow_scale", narrow_scale)
        if self.narrow_scale >= self.wide_scale:
            raise arguments.error(
                "narrow_scale", f"below `wide_scale={wide_scale}`", narrow_scale
            )

    def kl(self, loc: Tensor, scale: Tensor, draw: Tensor | None) -> Tensor:
        wide = math.log(self.weight) + normal_log_prob(draw, 0.0, self.wide_scale)
        narrow = math.log1p(-self.weight) + normal_log_prob(
            draw, 0.0, self.narrow_scale
        )
        # The entropy of the posterior has a closed form. Only the other term
        # is estimated from the draw.
        entropy = ops.log(scale) + 0.5 * math.log(2.0 * math.pi * math.e)
        return -ops.sum(ops.logaddexp(wide, narrow) + entropy)

    def get_config(self) -> Config:
        return {
            "weight": self.weight,
            "wide_scale": self.wide_scale,
            "narrow_scale": self.narrow_scale,
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
