"""NumPyro: a step of `SVI` with the guide `AutoNormal` and the exact KL.

NumPyro has no layers. The network is a function that samples its weights.
"""

import jax
import numpy as np
import numpyro
from numpyro.distributions import Normal
from numpyro.infer import SVI
from numpyro.infer import Predictive
from numpyro.infer import TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.initialization import init_to_value

from peers_benchmark.cases import RATE
from peers_benchmark.cases import ROWS
from peers_benchmark.cases import SHARED
from peers_benchmark.cases import Variant
from peers_benchmark.cases import size
from peers_benchmark.on_jax import initial
from peers_benchmark.on_jax import linear


def variant(case, x, y):
    names = "kernel", "bias"
    means = initial(case, random=False)["mean"]
    values = {
        f"{name}{i}": mean
        for i, layer in enumerate(means)
        for name, mean in zip(names, layer, strict=True)
    }

    def network(x, y=None):
        h = x
        for i, layer in enumerate(means):
            kernel, bias = (
                numpyro.sample(f"{name}{i}", Normal(0, 1).expand(mean.shape).to_event())
                for name, mean in zip(names, layer, strict=True)
            )
            h = jax.nn.relu(linear(h, kernel) + bias)
        numpyro.deterministic("output", h)
        # The mean of the squares, times the rows whose KL is whole.
        with numpyro.handlers.scale(scale=2 * ROWS / h.size):
            numpyro.sample("y", Normal(h, 1.0).to_event(), obs=y)

    guide = AutoNormal(
        network, init_loc_fn=init_to_value(values=values), init_scale=0.05
    )
    svi = SVI(network, guide, numpyro.optim.Adam(RATE), TraceMeanField_ELBO())
    held = [svi.init(jax.random.key(0), x, y)]
    update = jax.jit(svi.update, donate_argnums=0)

    def step():
        held[0], loss = update(held[0], x, y)
        return float(loss) / ROWS

    trained = size(jax.tree.leaves(svi.get_params(held[0])))

    @jax.jit
    def run(key, params):
        predictive = Predictive(
            network,
            guide=guide,
            params=params,
            num_samples=case.samples,
            return_sites=["output"],
        )
        return predictive(key, x)["output"]

    def predict():
        return np.asarray(run(jax.random.key(1), svi.get_params(held[0])))

    return Variant("JAX", "NumPyro", SHARED, trained, step, predict)
