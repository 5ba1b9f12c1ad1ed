"""Bernoulli and categorical distributions, from logits. Everything in nats."""

from keras import ops

from keras_uq_layers.numerics.dtypes import widen


def bernoulli_log_prob(y, logits):
    """Log probability of a Bernoulli distribution, in nats.

    ```
    log p(y) = -y * softplus(-logit) - (1 - y) * softplus(logit)
    ```

    Args:
        y: Tensor of outcomes, 0 or 1, or of probabilities in between; then
            it is the negative cross-entropy.
        logits: Tensor of log odds, `log(p / (1 - p))`.

    Returns:
        Tensor of the broadcast shape, float32 or wider; `-inf`, with a
        gradient of 0, where `y` is outside `[0, 1]`.

    Example:

    >>> round(float(bernoulli_log_prob(1.0, 0.0)), 4)
    -0.6931
    """
    y, logits = widen(y, logits)
    outside = (y < 0) | (y > 1)
    y = ops.where(outside, ops.zeros_like(y), y)
    inside = -y * ops.softplus(-logits) - (1.0 - y) * ops.softplus(logits)
    return ops.where(outside, ops.full_like(inside, -float("inf")), inside)


def bernoulli_entropy(logits):
    """Entropy of a Bernoulli distribution, in nats: at most `log(2)`.

    ```
    H = softplus(-a) + a * sigmoid(-a),  a = |logit|
    ```

    Args:
        logits: Tensor of log odds.

    Returns:
        Tensor of the same shape, float32 or wider.

    Example:

    >>> round(float(bernoulli_entropy(0.0)), 4)
    0.6931
    """
    # From the magnitude, where the two terms have the same sign: with the
    # signed logit they would cancel in one tail.
    a = ops.abs(widen(logits))
    return ops.softplus(-a) + a * ops.sigmoid(-a)


def categorical_log_prob(y, logits):
    """Log probability of a categorical distribution, class by class, in nats.

    ```
    y_k * log softmax(logits)_k
    ```

    Args:
        y: Tensor of class probabilities `(..., K)`, one-hot for a label.
        logits: Tensor `(..., K)`, log probabilities up to a constant.

    Returns:
        Tensor `(..., K)`, float32 or wider, whose sum is the log probability
        of a label, or the negative cross-entropy of probabilities.

    Example:

    >>> y = ops.convert_to_tensor([0.0, 1.0])
    >>> terms = categorical_log_prob(y, ops.convert_to_tensor([3.0, 3.0]))
    >>> round(float(ops.sum(terms)), 4)
    -0.6931
    """
    y, logits = widen(y, logits)
    log_p = ops.log_softmax(logits, axis=-1)
    # log_p is -inf where the difference of two logits overflows.
    unused = y == 0
    terms = y * ops.where(unused, ops.zeros_like(log_p), log_p)
    return ops.where(unused, ops.zeros_like(terms), terms)


def categorical_entropy(logits):
    """Entropy of a categorical distribution, in nats: at most `log(K)`.

    ```
    H = -sum over k of p_k * log p_k,  p = softmax(logits)
    ```

    Args:
        logits: Tensor `(..., K)`.

    Returns:
        Tensor `(...)`, float32 or wider.

    Example:

    >>> round(float(categorical_entropy(ops.zeros((4,)))), 4)  # log(4)
    1.3863
    """
    log_p = ops.log_softmax(widen(logits), axis=-1)
    p = ops.exp(log_p)
    safe = ops.where(p == 0, ops.zeros_like(log_p), log_p)
    return -ops.sum(p * safe, axis=-1)
