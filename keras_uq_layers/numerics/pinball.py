"""The pinball score of quantiles."""

from keras import ops

from keras_uq_layers.numerics.dtypes import widen


def pinball(y, quantile, level):
    """Pinball (quantile) score, in the unit of `y`; smaller is better.

    ```
    pinball = level * (y - q) where y > q, else (1 - level) * (q - y)
    ```

    Its expectation is smallest where `q` is the quantile of that level.

    Args:
        y: Tensor of observations.
        quantile: Tensor of predicted quantiles.
        level: Tensor of their levels, in `[0, 1]`.

    Returns:
        Tensor of the broadcast shape, float32 or wider, not negative.

    Example:

    >>> round(float(pinball(1.0, 0.0, 0.9)), 4), round(float(pinball(0.0, 1.0, 0.9)), 4)
    (0.9, 0.1)

    Reference:
        Koenker & Bassett, 1978, "Regression Quantiles", Econometrica 46(1),
        doi:10.2307/1913643.
    """
    y, quantile, level = widen(y, quantile, level)
    above = ops.relu(y - quantile)
    below = ops.relu(quantile - y)
    return level * above + (1.0 - level) * below
