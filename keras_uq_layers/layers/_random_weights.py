"""The random weights of one layer: a posterior, its priors and the KL."""

from collections.abc import Callable

import keras
from keras import ops

from keras_uq_layers import _random
from keras_uq_layers._typing import Tensor
from keras_uq_layers.layers._kl import KLRegularizer
from keras_uq_layers.layers._seeding import SeedGenerator
from keras_uq_layers.posteriors import Posterior
from keras_uq_layers.priors import Prior


class RandomWeights:
    """Draws the random weights of one layer, and computes their KL.

    The layer owns the variables. This object refers to them and never to the
    layer.

    Args:
        posterior: A `Posterior`.
        priors: Dict from the name of a weight to its `Prior`; the prior under
            the name None is that of all other weights.
        kl_weight: The variable that holds the weight of the KL.
        seed: Integer seed of the draws, or None.
    """

    def __init__(
        self,
        posterior: Posterior,
        priors: dict[str | None, Prior],
        kl_weight: keras.Variable,
        seed: int | None,
    ):
        self.posterior, self.priors = posterior, priors
        self.kl_weight, self.seed = kl_weight, seed
        self.generators = [SeedGenerator(seed)]
        if any(prior.needs_draw for prior in priors.values()):
            # A stream of its own: reading `model.losses` must not change the
            # next draw of the weights.
            kl_seed = None if seed is None else seed + 1
            self.generators.append(SeedGenerator(kl_seed))

    def build(
        self,
        add_weight: Callable[..., keras.Variable],
        means: dict[str, keras.Variable],
        glorot_scales: dict[str, float],
    ) -> None:
        """Creates the other weights of posterior and priors.

        Args:
            add_weight: The layer's `add_weight`.
            means: Dict from the name of a random weight to the variable that
                holds its posterior mean.
            glorot_scales: Dict from that name to the Glorot standard deviation.
        """

        def add_wide_weight(**kwargs):
            # In float32 or wider under a mixed policy, too.
            return add_weight(dtype=self.kl_weight.dtype, autocast=False, **kwargs)

        self.posterior.build(
            add_wide_weight,
            means,
            glorot_scales,
            regularizer=KLRegularizer(self.kl_weight, self.kl),
            seed=self.seed,
        )
        for name, prior in self.priors.items():
            prior.build(add_wide_weight, f"{name or 'weights'}_prior", self._of(prior))

    def _prior_of(self, name: str) -> Prior:
        return self.priors.get(name) or self.priors[None]

    def _of(self, prior: Prior) -> dict[str, keras.Variable]:
        """The posterior means of the weights that have a prior, by name."""
        means = self.posterior.mean_weights
        return {name: means[name] for name in means if self._prior_of(name) is prior}

    def center_priors(self) -> None:
        """Moves each prior with `loc="initial_weights"` to the posterior means."""
        for prior in self.priors.values():
            prior.center(self._of(prior))

    def kl(self) -> Tensor:
        """KL divergence from the posterior to the priors, in nats: a scalar."""
        posterior = self.posterior
        scales = posterior.marginal_scale()
        draws = self.draw(stream=-1) if len(self.generators) > 1 else {}
        # The priors are independent. So the KL is the sum over the single
        # weights plus the correlation between them.
        kl = posterior.total_correlation()
        for prior in self.priors.values():
            means = self._of(prior)
            if not means:
                continue
            own = scales
            if len(means) < len(posterior.mean_weights):
                apart = posterior.unpack(scales)
                own = ops.concatenate([ops.reshape(apart[k], (-1,)) for k in means])
            kl = kl + prior.kl(
                {name: ops.cast(mean.value, own.dtype) for name, mean in means.items()},
                own,
                {name: draws[name] for name in means} if draws else None,
            )
        return kl

    def draw(self, stream: int = 0) -> dict[str, Tensor]:
        """One draw of all weights: dict from name to tensor."""
        changes = self.perturbation(stream)
        return {
            name: weight.value + changes[name]
            for name, weight in self.posterior.mean_weights.items()
        }

    def perturbation(self, stream: int = 0) -> dict[str, Tensor]:
        """One draw less the means: dict from name to tensor."""
        noise = _random.normal(
            (self.posterior.noise_size,),
            keras.backend.standardize_dtype(self.kl_weight.dtype),
            self.generators[stream],
        )
        return self.posterior.unpack(self.posterior.perturbation(noise))
