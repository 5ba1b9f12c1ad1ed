"""The entropy of a yes-or-no variable, from its logit."""

from keras import ops

from keras_uq_layers._typing import Tensor
from keras_uq_layers.numerics.dtypes import widen


def bernoulli_entropy(logits: Tensor) -> Tensor:
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
