"""Pure functions: tensors in, tensors out, no layer, no state, no seed.

They belong to no single distribution. A layer or family of your own finds
here the parts that are easy to get wrong.

Every function is safe for every finite input of its dtype: neither the value
nor the gradient is NaN. Half precision inputs are widened to float32 inside.
Arguments outside the domain (a scale that is not positive, a probability
outside `[0, 1]`) give NaN, as in SciPy.
"""

from keras_uq_layers import _namespace
from keras_uq_layers.numerics.betainc import betainc
from keras_uq_layers.numerics.betainc import log_beta
from keras_uq_layers.numerics.bump import bump
from keras_uq_layers.numerics.bump import bump_threshold
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import at_least_float32
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.gammainc import gammainc
from keras_uq_layers.numerics.gammainc import gammaincc
from keras_uq_layers.numerics.logits import bernoulli_entropy
from keras_uq_layers.numerics.masking import masked_mean
from keras_uq_layers.numerics.masking import position_mask
from keras_uq_layers.numerics.masking import position_weights
from keras_uq_layers.numerics.masking import where_valid
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.normal import log_ndtr
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_kl
from keras_uq_layers.numerics.normal import normal_log_prob
from keras_uq_layers.numerics.normal import normal_quantile
from keras_uq_layers.numerics.positive import POSITIVE_FLOOR
from keras_uq_layers.numerics.positive import SCALE_FLOOR
from keras_uq_layers.numerics.positive import positive
from keras_uq_layers.numerics.positive import positive_inverse
from keras_uq_layers.numerics.root import monotone_root
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import lgamma
from keras_uq_layers.numerics.special import ndtri

__all__ = [
    "POSITIVE_FLOOR",
    "SCALE_FLOOR",
    "at_least_float32",
    "bernoulli_entropy",
    "betainc",
    "bump",
    "bump_threshold",
    "deviance",
    "divide",
    "gammainc",
    "gammaincc",
    "lgamma",
    "log_beta",
    "log_ndtr",
    "masked_mean",
    "monotone_root",
    "ndtri",
    "normal_cdf",
    "normal_kl",
    "normal_log_prob",
    "normal_quantile",
    "position_mask",
    "position_weights",
    "positive",
    "positive_inverse",
    "stirling_error",
    "where_valid",
    "widen",
    "within_support",
]

_namespace.define(__name__)
