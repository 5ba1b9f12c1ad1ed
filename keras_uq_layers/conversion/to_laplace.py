"""A trained model whose last layer gets the Laplace approximation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers.batches import RowSample
from keras_uq_layers.conversion import _likelihoods
from keras_uq_layers.conversion import _walk
from keras_uq_layers.conversion._curvature import BOUND
from keras_uq_layers.conversion._curvature import STRUCTURES
from keras_uq_layers.conversion._curvature import Bound
from keras_uq_layers.conversion._curvature import Curvature
from keras_uq_layers.conversion._last_layer import KINDS
from keras_uq_layers.conversion._last_layer import LastLayer
from keras_uq_layers.conversion._temperature import warmest
from keras_uq_layers.layers import DenseVariational
from keras_uq_layers.layers import Variational
from keras_uq_layers.layers._head import Head
from keras_uq_layers.numerics.dtypes import finfo
from keras_uq_layers.priors import NormalPrior

_PRECISIONS = 1e-10, 1e10
# Rows that are left out, each in turn: their mean loss is known well enough. With
# many classes fewer rows, which take as long, have as many outputs.
_LEFT_OUT = 1000
_LEFT_OUT_OUTPUTS = 250_000


def to_laplace(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    structure: str | None = None,
    prior_precision: float | None = None,
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

    For a classifier, `structure="bound"` is the default, and another matrix:

    ```
    w ~ N(w_trained, temperature * inverse(B + floor * I)),   B >= H
    B = sum over rows of J^T (c I) J,   c = 1/2 for a softmax, 1/4 for a sigmoid
    ```

    `H` forgets the rows of which the network is sure, since the curvature of a
    softmax is nearly 0 there. Then its posterior is too wide at the data, and with
    a prior that makes it narrow enough, too narrow far from them. `B` weighs all
    rows alike: its variances grow with the distance to the training data alone. The
    temperature is the largest at which the training rows, each left out of the
    posterior of the last layer in turn, lose at most 0.005 nats of their mean log
    likelihood. So the probabilities stay about as good as those of the plain model.
    `floor` is the prior precision: the rounding error of the layer's dtype times
    the largest eigenvalue of `B`.

    The last layer must be a `keras.layers.Dense`, which becomes a
    `uq.DenseVariational` with this posterior, or a `uq.DistributionHead` of the
    family `"normal"`, `"categorical"`, `"bernoulli"` or `"poisson"`, which is
    wrapped in `uq.Variational`. A softmax or a sigmoid may follow as a layer of its
    own. Predicting, saving, exporting and `uq.to_deterministic` work as for any
    other random layer. The likelihood is that of the model: the family of the head;
    classes for a softmax, a sigmoid or a compiled cross entropy; a normal for a
    compiled mean squared error.

    The variances grow with the distance between features. Features of ReLU units
    do not always grow apart where the inputs do, and where they do, the logits grow,
    too: far away along a direction that tells the classes, the model may stay sure.
    `uq.diagnose` sees it. Then put `uq.RandomFourierFeatures` in front of the last
    layer, or ask `uq.novelty.FeatureDensity` whether an input is known.

    After squared errors the output is still a mean, without noise: an interval of
    `uq.predict` holds the epistemic part alone. For an interval of targets, end the
    model in a head, or use `uq.calibration.SplitConformal`.

    Args:
        model: A Sequential or Functional model with one output, trained. It is
            left as it is. No layer in front of the last one may be random.
        x: Training inputs as for `model.fit`: arrays, or an iterable of batches
            `(x, y)` such as a `tf.data.Dataset` or a `keras.utils.PyDataset`.
        y: Training targets as for `model.fit`.
        structure: `"bound"`, see above, for classes alone and for layers of any
            width; or the Gauss-Newton matrix with certain correlations: `"full"`,
            all of them, for up to some thousand weights; `"kronecker"`, those of
            the inputs times those of the outputs, for wide layers; `"diagonal"`,
            none. None: `"bound"` for classes, unless `prior_precision` is given;
            otherwise `"full"`.
        prior_precision: Inverse variance of the normal prior of each weight, whose
            mean is 0, a positive float. None: the one under which the training
            data are most likely. With the Gauss-Newton matrix, that one can make
            the probabilities of classes much too modest, where the network is
            large for its data.
        noise_scale: Standard deviation of the targets around the output, for
            squared errors, in the unit of y. None: that of the residuals.
        batch_size: Rows at a time, for arrays. None: 256.
        verbose: 0 for no progress bar, `"auto"`, 1 or 2 for one.

    Returns:
        A new model, compiled as `model` is. `log_marginal_likelihood` of its random
        layer says how well model and prior fit the data, in nats; it is saved with
        the layer. With `"bound"` it is None.

    Raises:
        ValueError: The model does not end in such a layer, is random in front of
            it, or has no known likelihood; `y` does not agree with the output; an
            argument is out of range or does not fit the likelihood.

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
        Networks", Neural Computation 4(3). Boehning, 1992, "Multinomial Logistic
        Regression Algorithm", Annals of the Institute of Statistical Mathematics
        44(1): the bound. Kristiadi, Hein & Hennig, 2020, "Being Bayesian, Even Just
        a Bit, Fixes Overconfidence in ReLU Networks", ICML, arXiv:2002.10118.
        Daxberger et al., 2021, "Laplace Redux - Effortless Bayesian Deep Learning",
        NeurIPS, arXiv:2106.14806.
    """
    last = LastLayer(model)
    is_bounded = last.likelihood in _likelihoods.BOUNDED
    if prior_precision is not None:
        prior_precision = arguments.positive_float("prior_precision", prior_precision)
    if structure is None:
        structure = BOUND if is_bounded and prior_precision is None else "full"
    arguments.one_of("structure", structure, tuple(STRUCTURES))
    if structure == BOUND:
        if not is_bounded:
            rule = "'full', 'kronecker' or 'diagonal' for a likelihood without classes"
            raise arguments.error("structure", rule, structure)
        if prior_precision is not None:
            rule = "None with the structure 'bound'"
            raise arguments.error("prior_precision", rule, prior_precision)
    is_normal = last.likelihood is _likelihoods.unit_normal
    if noise_scale is not None:
        noise_scale = arguments.positive_float("noise_scale", noise_scale)
        if not is_normal:
            rule = "None for a likelihood that has no noise of its own"
            raise arguments.error("noise_scale", rule, noise_scale)
    curvature = STRUCTURES[structure](last.inputs, last.units, last.use_bias)
    some_rows = RowSample(min(_LEFT_OUT, 1 + _LEFT_OUT_OUTPUTS // last.units))
    count, log_likelihood = 0, 0.0
    for h, targets in last.rows(x, y, batch_size, verbose):
        curved = last.likelihood(last.outputs(h), targets)
        curvature.add(h, curved)
        some_rows.add(h, targets)
        count += len(h)
        log_likelihood += float(np.sum(curved.log_likelihood))
    if is_normal:
        if noise_scale is None:
            noise_scale = _residual_scale(log_likelihood, count * last.units)
        curvature.scale(noise_scale**-2)
        log_likelihood = _at_noise(log_likelihood, count * last.units, noise_scale)
    if isinstance(curvature, Bound):
        prior_precision = _set_temperature(curvature, last, *some_rows.arrays)
        return _with_posterior(model, last, curvature, prior_precision, count, None)
    if prior_precision is None:
        prior_precision = _best_precision(curvature.eigenvalues, last.squares)
    evidence = log_likelihood + _log_occam_factor(
        curvature.eigenvalues, last.squares, prior_precision
    )
    return _with_posterior(model, last, curvature, prior_precision, count, evidence)


def _set_temperature(
    curvature: Bound, last: LastLayer, h: Array, targets: Array
) -> float:
    """Sets the temperature of the bound, and returns its prior precision."""
    # A draw from a wider posterior would lose the digits in which the well
    # determined weights are known.
    dtypes = "float32", last.compute_dtype
    precision = max(float(finfo(dtype).eps) for dtype in dtypes)
    precision *= curvature.eigenvalues.max() or 1.0
    outputs = last.outputs(h)

    def log_p(change: Array) -> Array:
        return last.likelihood(outputs + change, targets).log_likelihood

    variances = curvature.left_out_variances(h, precision)
    curvature.temperature = warmest(log_p, variances, last.units)
    return precision


def _residual_scale(log_likelihood: float, count: int) -> float:
    """Root of the mean square of `count` residuals, from a unit normal."""
    squares = -2.0 * log_likelihood - count * math.log(2.0 * math.pi)
    if squares <= 0.0:
        raise ValueError(
            "`noise_scale` must be given where all residuals are 0. "
            "Received: noise_scale=None"
        )
    return math.sqrt(squares / count)


def _at_noise(log_likelihood: float, count: int, scale: float) -> float:
    """A log likelihood of `count` unit normal numbers, for another scale."""
    constant = 0.5 * count * math.log(2.0 * math.pi)
    return (log_likelihood + constant) / scale**2 - constant - count * math.log(scale)


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
    last: LastLayer,
    curvature: Curvature,
    precision: float,
    count: int,
    evidence: float | None,
) -> keras.Model:
    layer = last.layer
    options: dict[str, Any] = {
        # A posterior at a temperature is the best one for this weight of the KL.
        "kl_weight": curvature.temperature / count,
        "posterior": curvature.posterior(),
        "prior": NormalPrior((precision / curvature.temperature) ** -0.5),
        "log_marginal_likelihood": evidence,
        "name": layer.name,
    }

    def counterpart(found: keras.layers.Layer) -> keras.layers.Layer | None:
        if type(found) is not type(layer) or found.name != layer.name:
            return None
        if isinstance(layer, Head):
            return Variational(type(layer).from_config(layer.get_config()), **options)
        return DenseVariational(
            layer.units,
            layer.activation,
            use_bias=layer.use_bias,
            dtype=layer.dtype_policy,
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
        model, KINDS.__contains__, counterpart, transfer, whole=(Head, Variational)
    )
