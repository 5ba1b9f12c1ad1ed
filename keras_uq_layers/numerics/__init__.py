"""Pure functions: tensors in, tensors out, no layer, no state, no seed.

Every function is safe for every finite input of its dtype: neither the value
nor the gradient is NaN. Half precision inputs are widened to float32 inside.
Arguments outside the domain (a scale that is not positive, a probability
outside `[0, 1]`) give NaN, as in SciPy.
"""

from keras_uq_layers.numerics.bump import bump
from keras_uq_layers.numerics.bump import bump_threshold
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import at_least_float32
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.laplace import laplace_cdf
from keras_uq_layers.numerics.laplace import laplace_crps
from keras_uq_layers.numerics.laplace import laplace_log_prob
from keras_uq_layers.numerics.laplace import laplace_quantile
from keras_uq_layers.numerics.logits import bernoulli_entropy
from keras_uq_layers.numerics.logits import bernoulli_log_prob
from keras_uq_layers.numerics.logits import categorical_entropy
from keras_uq_layers.numerics.logits import categorical_log_prob
from keras_uq_layers.numerics.masking import masked_mean
from keras_uq_layers.numerics.masking import position_mask
from keras_uq_layers.numerics.masking import position_weights
from keras_uq_layers.numerics.masking import where_valid
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_crps
from keras_uq_layers.numerics.normal import normal_kl
from keras_uq_layers.numerics.normal import normal_log_prob
from keras_uq_layers.numerics.normal import normal_quantile
from keras_uq_layers.numerics.positive import SCALE_FLOOR
from keras_uq_layers.numerics.positive import positive
from keras_uq_layers.numerics.positive import positive_inverse
from keras_uq_layers.numerics.special import ndtri

__all__ = [
    "SCALE_FLOOR",
    "at_least_float32",
    "bernoulli_entropy",
    "bernoulli_log_prob",
    "bump",
    "bump_threshold",
    "categorical_entropy",
    "categorical_log_prob",
    "divide",
    "laplace_cdf",
    "laplace_crps",
    "laplace_log_prob",
    "laplace_quantile",
    "masked_mean",
    "ndtri",
    "normal_cdf",
    "normal_crps",
    "normal_kl",
    "normal_log_prob",
    "normal_quantile",
    "position_mask",
    "position_weights",
    "positive",
    "positive_inverse",
    "where_valid",
    "widen",
]
