"""A trained model whose last layer gets the Laplace approximation."""

import math
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers.batches import batches
from keras_uq_layers.conversion import _likelihoods
from keras_uq_layers.conversion import _walk
from keras_uq_layers.conversion._curvature import STRUCTURES
from keras_uq_layers.conversion._curvature import Curvature
from keras_uq_layers.conversion._likelihoods import Likelihood
from keras_uq_layers.families import Bernoulli
from keras_uq_layers.families import Categorical
from keras_uq_layers.families import Poisson
from keras_uq_layers.layers import DenseVariational
from keras_uq_layers.layers import DistributionHead
from keras_uq_layers.layers import Variational
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics.dtypes import to_numpy
from keras_uq_layers.priors import NormalPrior
from keras_uq_layers.reading import family_of

_PRECISIONS = 1e-10, 1e10
# The search on held-out rows: from narrow to wide posteriors, in steps of a
# quarter of a power of ten.
_LADDER = 10.0 ** np.arange(8.0, -4.1, -0.25)
_DRAWS = 100
_LOSS_ALLOWED = 0.005
_LAST = keras.layers.Dense, DistributionHead
_LINEAR = keras.activations.linear
_LIKELIHOODS = {
    Bernoulli: _likelihoods.bernoulli,
    Categorical: _likelihoods.categorical,
    Poisson: _likelihoods.poisson,
}


def to_laplace(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    structure: str = "full",
    prior_precision: float | None = None,
    validation_data: Any = None,
    noise_scale: float | None = None,
    batch_size: int | None = None,
    verbose: str | int = "auto",
) -> keras.Model:
    """The same trained model with an uncertain last layer, without training: one
    pass over the training data says how sure each of its weights is.

    ```
    w ~ N(w_trained, inverse(H + prior_precision * I))
    H = sum over rows of J^T L J
    ```

    `J` is the derivative of the outputs in the weights of the last layer, and `L`
    that of the negative log likelihood, twice, in the outputs: `H` is the
    generalised Gauss-Newton matrix. For a linear model with squared errors this is
    the exact posterior.

    The last layer must be a `keras.layers.Dense`, which becomes a
    `uq.DenseVariational` with this posterior, or a `uq.DistributionHead` of the
    family `"categorical"`, `"bernoulli"` or `"poisson"`, which is wrapped in
    `uq.Variational`. Predicting, saving, exporting and `uq.to_deterministic` work
    as for any other random layer. The likelihood is that of the model: the family
    of the head; classes for a softmax, a sigmoid or a compiled cross entropy; a
    normal for a compiled mean squared error.

    A network of ReLU units may be surer far from the data than near it, also in
    its features. Then put `uq.RandomFourierFeatures` in front of the last layer.

    Args:
        model: A Sequential or Functional model with one output, trained. It is
            left as it is. No layer in front of the last one may be random.
        x: Training inputs as for `model.fit`: arrays, or an iterable of batches
            `(x, y)` such as a `tf.data.Dataset` or a `keras.utils.PyDataset`.
        y: Training targets as for `model.fit`.
        structure: `"full"`: all correlations, for up to some thousand weights;
            `"kronecker"`: those of the inputs times those of the outputs, for
            wide layers; `"diagonal"`: none.
        prior_precision: Inverse variance of the normal prior of each weight, whose
            mean is 0, a positive float. None: chosen by `validation_data`; without
            them, the one under which the training data are most likely. That one
            can make the probabilities of classes much too modest, where the
            network is large for its data.
        validation_data: Held-out data, a tuple `(x, y)` or an iterable of batches.
            The prior precision is then the smallest, hence the posterior the
            widest, with which the mean negative log likelihood of these rows is
            at most 0.005 nats above the smallest one. So the probabilities stay
            as good as those of the plain model, and the model is no surer than
            that far from the data.
        noise_scale: Standard deviation of the targets around the output, for
            squared errors, in the unit of y. None: that of the residuals.
        batch_size: Rows at a time, for arrays. None: 256.
        verbose: 0 for no progress bar, `"auto"`, 1 or 2 for one.

    Returns:
        A new model, not compiled. `model.layers[-1].log_marginal_likelihood` says
        how well model and prior fit the data, in nats; it is saved with the layer.

    Raises:
        ValueError: The model does not end in such a layer, is random in front of
            it, or has no known likelihood; `y` does not agree with the output; an
            argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    >>> laplace = uq.to_laplace(model, x, y, verbose=0)
    >>> laplace.layers[-1].posterior.scale["kernel"].shape
    (3, 1)

    References:
        MacKay, 1992, "A Practical Bayesian Framework for Backpropagation
        Networks", Neural Computation 4(3). Kristiadi, Hein & Hennig, 2020, "Being
        Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks", ICML,
        arXiv:2002.10118. Daxberger et al., 2021, "Laplace Redux - Effortless
        Bayesian Deep Learning", NeurIPS, arXiv:2106.14806.
    """
    arguments.one_of("structure", structure, tuple(STRUCTURES))
    if prior_precision is not None:
        prior_precision = arguments.positive_float("prior_precision", prior_precision)
        if validation_data is not None:
            raise arguments.error(
                "validation_data", "None where `prior_precision` is given", "data"
            )
    last = _last_layer(model)
    likelihood = _likelihood_of(model, last)
    is_normal = likelihood is _likelihoods.unit_normal
    if noise_scale is not None:
        noise_scale = arguments.positive_float("noise_scale", noise_scale)
        if not is_normal:
            raise arguments.error(
                "noise_scale", "None for a likelihood of classes", noise_scale
            )
    layer = _LinearMap(model, last)
    curvature = STRUCTURES[structure](layer.inputs, layer.units, layer.use_bias)
    count, log_likelihood = 0, 0.0
    for h, targets in layer.rows(x, y, batch_size, verbose):
        curved = likelihood(layer.outputs(h), targets)
        curvature.add(h, curved)
        count += len(h)
        log_likelihood += float(np.sum(curved.log_likelihood))
    if is_normal:
        if noise_scale is None:
            noise_scale = _residual_scale(log_likelihood, count * layer.units)
        curvature.scale(noise_scale**-2)
        log_likelihood = _at_noise(log_likelihood, count * layer.units, noise_scale)
    if validation_data is not None:
        held_out = layer.rows(*_pair(validation_data), batch_size, verbose)
        h, targets = (np.concatenate(part) for part in zip(*held_out, strict=True))

        def log_p(change: Array) -> Array:
            found = likelihood(layer.outputs(h) + change, targets).log_likelihood
            return _at_noise(found, layer.units, noise_scale) if noise_scale else found

        prior_precision = _widest_precision(curvature, h, log_p)
    elif prior_precision is None:
        prior_precision = _best_precision(curvature.eigenvalues, layer.squares)
    evidence = log_likelihood + _log_occam_factor(
        curvature.eigenvalues, layer.squares, prior_precision
    )
    return _with_posterior(model, last, curvature, prior_precision, count, evidence)


# The model


def _last_layer(model: keras.Model) -> Any:
    _walk.check_model(model)
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1:
        raise ValueError(
            "`model` must be built, with one output. Received: a model with "
            f"{len(outputs)} known output(s)"
        )
    last = _keras.history_of(outputs[0])[0]
    if type(last) not in _LAST or last not in model.layers:
        raise ValueError(
            "`model` must end in a `keras.layers.Dense` or a `uq.DistributionHead`, "
            f"not in a model or another layer. Received: a model that ends in {last}"
        )
    for layer in _keras.all_layers(model):
        # Keras's own random layers draw in training alone.
        if _keras.seed_generators_of(layer) and not _keras.is_keras(layer):
            raise ValueError(
                "`model` must not be random in front of its last layer. Give "
                f"`uq.to_deterministic(model)`. Received: {layer}"
            )
    return last


def _likelihood_of(model: keras.Model, last: Any) -> Likelihood:
    """What the head, or the last activation and the compiled loss, say."""
    # Of a layer with an activation of another kind, the logits are not known.
    activation = getattr(last, "activation", _LINEAR)
    is_plain = not isinstance(last, Head) and activation is _LINEAR
    if is_plain and _is_squared_error(getattr(model, "loss", None)):
        return _likelihoods.unit_normal
    family = family_of(model)
    known = activation in (
        _LINEAR,
        keras.activations.softmax,
        keras.activations.sigmoid,
    )
    if known and type(family) in _LIKELIHOODS:
        return _LIKELIHOODS[type(family)]
    raise ValueError(
        "`model` must end in a head of the family 'categorical', 'bernoulli' or "
        "'poisson', in a softmax, in a sigmoid, or in a linear layer and be compiled "
        "with a cross entropy or the mean squared error. Received: a model of the "
        f"family {family!r} that ends in {last} with the activation "
        f"{activation.__name__}"
    )


def _is_squared_error(loss: Any) -> bool:
    if not isinstance(loss, (str, keras.losses.Loss)) and not callable(loss):
        return False
    found = keras.losses.get(loss)
    name = getattr(found, "name", None) or getattr(found, "__name__", "")
    return name == "mean_squared_error"


class _LinearMap:
    """The last product of a model with its weights, in float64 on the host."""

    def __init__(self, model: keras.Model, last: Any) -> None:
        is_head = isinstance(last, Head)
        dense = last.dense if is_head else last
        self._weights = [np.asarray(w, dtype="float64") for w in dense.get_weights()]
        self._offset = to_numpy(last._offset_features()) if is_head else 0.0
        self.inputs, self.units = self._weights[0].shape
        self.use_bias = dense.use_bias
        self.squares = sum(float(np.sum(w**2)) for w in self._weights)
        # Not `last.input`: the layer may stand in other models, too.
        _, _, arguments_of_last = _keras.history_of(model.outputs[0])
        inputs = _keras.symbolic_inputs(model)
        self._features = keras.Model(inputs, arguments_of_last[0])

    def rows(
        self, x: Any, y: Any, batch_size: int | None, verbose: str | int
    ) -> Iterator[tuple[Array, Array]]:
        """Inputs of the layer and targets of each batch, a row for each position."""
        for rows, targets, sample_weight in batches(x, y, batch_size, verbose):
            if targets is None or sample_weight is not None:
                raise ValueError(
                    "`x` and `y` must hold inputs and targets, without weights of "
                    "examples. Received: "
                    + ("no targets" if targets is None else "weights of examples")
                )
            h = _as_rows(self._features.predict_on_batch(rows), self.inputs)
            yield h, _targets(targets, h)

    def outputs(self, h: Array) -> Array:
        return h @ self._weights[0] + sum(self._weights[1:]) + self._offset


def _pair(data: Any) -> tuple[Any, Any]:
    """`(x, y)` of validation data, as Keras takes them."""
    if isinstance(data, (list, tuple)):
        if len(data) != 2:
            raise arguments.error("validation_data", "(x, y), or batches of them", data)
        return data[0], data[1]
    return data, None


def _as_rows(values: Any, width: int) -> Array:
    """`(N, ..., width)` as `(positions, width)`, finite float64."""
    rows = np.asarray(values, dtype="float64").reshape(-1, width)
    if not np.isfinite(rows).all():
        raise ValueError(
            "`x` must have finite features in front of the last layer. Received: "
            f"{np.count_nonzero(~np.isfinite(rows))} NaN or infinite value(s)"
        )
    return rows


def _targets(y: Any, h: Array) -> Array:
    """Targets with a row for each position of the features."""
    targets = np.asarray(ops.convert_to_numpy(y), dtype="float64")
    if not np.isfinite(targets).all():
        raise ValueError("`y` must be finite. Received: NaN or infinite values")
    if targets.shape[:1] == (len(h),):
        return targets
    # Positions of a sequence or an image: labels, or a last axis of outputs.
    return targets.reshape(len(h), -1)


# The posterior


def _residual_scale(log_likelihood: float, count: int) -> float:
    """Root of the mean square of `count` residuals, from a unit normal."""
    squares = -2.0 * log_likelihood - count * math.log(2.0 * math.pi)
    if squares <= 0.0:
        raise ValueError(
            "`noise_scale` must be given where all residuals are 0. "
            "Received: noise_scale=None"
        )
    return math.sqrt(squares / count)


def _at_noise(log_likelihood: Any, count: int, scale: float) -> Any:
    """A log likelihood of `count` unit normal numbers, for another scale."""
    constant = 0.5 * count * math.log(2.0 * math.pi)
    return (log_likelihood + constant) / scale**2 - constant - count * math.log(scale)


def _widest_precision(
    curvature: Curvature, h: Array, log_p: Callable[[Array], Array]
) -> float:
    """The smallest precision of the ladder that held-out rows allow.

    Args:
        curvature: The curvature of the training data.
        h: Inputs of the layer, `(N, inputs)`.
        log_p: Function from a change of the outputs `(N, units)` to the log
            likelihood of each row.
    """
    smallest, widest = math.inf, _LADDER[0]
    for precision in _LADDER:
        # The same random numbers each time: the loss is smooth in the precision.
        rng = np.random.default_rng(0)
        total = np.full(len(h), -math.inf)
        for _ in range(_DRAWS):
            total = np.logaddexp(total, log_p(curvature.draw(h, precision, rng)))
        loss = math.log(_DRAWS) - np.mean(total)
        smallest = min(smallest, loss)
        if loss > smallest + _LOSS_ALLOWED:
            break
        widest = precision
    return float(widest)


def _log_occam_factor(eigenvalues: Array, squares: float, precision: float) -> float:
    """Log marginal likelihood less the log likelihood of the trained weights."""
    log_dets = np.sum(np.log1p(eigenvalues / precision))
    return float(-0.5 * (log_dets + precision * squares))


def _best_precision(eigenvalues: Array, squares: float) -> float:
    """The prior precision of the largest marginal likelihood.

    There the number of well-determined parameters, `sum(e / (e + precision))`,
    equals `precision * squares` (MacKay 1992, eq. 25). The first falls with the
    precision and the second grows: one crossing, found by bisection.
    """
    low, high = (math.log(bound) for bound in _PRECISIONS)
    for _ in range(60):
        middle = 0.5 * (low + high)
        precision = math.exp(middle)
        if np.sum(eigenvalues / (eigenvalues + precision)) > precision * squares:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def _with_posterior(
    model: keras.Model,
    last: Any,
    curvature: Curvature,
    precision: float,
    count: int,
    evidence: float,
) -> keras.Model:
    options: dict[str, Any] = {
        "kl_weight": 1.0 / count,
        "posterior": curvature.posterior(),
        "prior": NormalPrior(precision**-0.5),
        "log_marginal_likelihood": evidence,
        "name": last.name,
    }

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if type(layer) is not type(last) or layer.name != last.name:
            return None
        if isinstance(last, Head):
            return Variational(type(last).from_config(last.get_config()), **options)
        return DenseVariational(
            last.units,
            last.activation,
            use_bias=last.use_bias,
            dtype=last.dtype_policy,
            **options,
        )

    def transfer(source: Any, target: Any) -> None:
        if isinstance(target, Variational):
            target.layer.set_weights(source.get_weights())
        else:
            # Copies: on JAX, training would free a buffer that two models share.
            target.kernel.assign(ops.copy(source.kernel))
            if source.use_bias:
                target.bias.assign(ops.copy(source.bias))
        curvature.assign(target.posterior, precision)

    return _walk.convert(
        model, _LAST.__contains__, counterpart, transfer, whole=(Head, Variational)
    )
