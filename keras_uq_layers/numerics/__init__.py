"""Pure functions: tensors in, tensors out, no layer, no state, no seed.

Every function is safe for every finite input of its dtype: neither the value
nor the gradient is NaN. Half precision inputs are widened to float32 inside.
Arguments outside the domain (a scale that is not positive, a probability
outside `[0, 1]`) give NaN, as in SciPy.
"""

from keras_uq_layers import _namespace
from keras_uq_layers.numerics.beta import beta_crps
from keras_uq_layers.numerics.beta import beta_log_prob
from keras_uq_layers.numerics.beta import betainc
from keras_uq_layers.numerics.beta import betainc_tails
from keras_uq_layers.numerics.beta import log_beta
from keras_uq_layers.numerics.bump import bump
from keras_uq_layers.numerics.bump import bump_threshold
from keras_uq_layers.numerics.censored_normal import censored_normal_cdf
from keras_uq_layers.numerics.censored_normal import censored_normal_crps
from keras_uq_layers.numerics.censored_normal import censored_normal_log_prob
from keras_uq_layers.numerics.censored_normal import censored_normal_moments
from keras_uq_layers.numerics.division import divide
from keras_uq_layers.numerics.dtypes import at_least_float32
from keras_uq_layers.numerics.dtypes import widen
from keras_uq_layers.numerics.gamma import gamma_cdf
from keras_uq_layers.numerics.gamma import gamma_crps
from keras_uq_layers.numerics.gamma import gamma_log_prob
from keras_uq_layers.numerics.gammainc import gammainc
from keras_uq_layers.numerics.gammainc import gammaincc
from keras_uq_layers.numerics.laplace import laplace_cdf
from keras_uq_layers.numerics.laplace import laplace_crps
from keras_uq_layers.numerics.laplace import laplace_log_prob
from keras_uq_layers.numerics.laplace import laplace_quantile
from keras_uq_layers.numerics.log_normal import log_normal_cdf
from keras_uq_layers.numerics.log_normal import log_normal_crps
from keras_uq_layers.numerics.log_normal import log_normal_log_prob
from keras_uq_layers.numerics.logits import bernoulli_entropy
from keras_uq_layers.numerics.logits import bernoulli_log_prob
from keras_uq_layers.numerics.logits import categorical_entropy
from keras_uq_layers.numerics.logits import categorical_log_prob
from keras_uq_layers.numerics.masking import masked_mean
from keras_uq_layers.numerics.masking import position_mask
from keras_uq_layers.numerics.masking import position_weights
from keras_uq_layers.numerics.masking import where_valid
from keras_uq_layers.numerics.masking import within_support
from keras_uq_layers.numerics.multivariate_normal import multivariate_normal_log_prob
from keras_uq_layers.numerics.negative_binomial import negative_binomial_cdf
from keras_uq_layers.numerics.negative_binomial import negative_binomial_log_prob
from keras_uq_layers.numerics.normal import log_ndtr
from keras_uq_layers.numerics.normal import log_ndtr_scaled
from keras_uq_layers.numerics.normal import normal_cdf
from keras_uq_layers.numerics.normal import normal_crps
from keras_uq_layers.numerics.normal import normal_kl
from keras_uq_layers.numerics.normal import normal_log_prob
from keras_uq_layers.numerics.normal import normal_quantile
from keras_uq_layers.numerics.normal_mixture import normal_mixture_cdf
from keras_uq_layers.numerics.normal_mixture import normal_mixture_crps
from keras_uq_layers.numerics.normal_mixture import normal_mixture_log_prob
from keras_uq_layers.numerics.pinball import pinball
from keras_uq_layers.numerics.poisson import poisson_cdf
from keras_uq_layers.numerics.poisson import poisson_crps
from keras_uq_layers.numerics.poisson import poisson_log_prob
from keras_uq_layers.numerics.positive import POSITIVE_FLOOR
from keras_uq_layers.numerics.positive import SCALE_FLOOR
from keras_uq_layers.numerics.positive import positive
from keras_uq_layers.numerics.positive import positive_inverse
from keras_uq_layers.numerics.root import monotone_root
from keras_uq_layers.numerics.saddle_point import deviance
from keras_uq_layers.numerics.saddle_point import log1p_minus
from keras_uq_layers.numerics.saddle_point import stirling_error
from keras_uq_layers.numerics.special import i0e
from keras_uq_layers.numerics.special import i1e
from keras_uq_layers.numerics.special import lgamma
from keras_uq_layers.numerics.special import ndtri
from keras_uq_layers.numerics.student_t import student_t_cdf
from keras_uq_layers.numerics.student_t import student_t_crps
from keras_uq_layers.numerics.student_t import student_t_log_prob
from keras_uq_layers.numerics.truncated_normal import truncated_normal_cdf
from keras_uq_layers.numerics.truncated_normal import truncated_normal_crps
from keras_uq_layers.numerics.truncated_normal import truncated_normal_log_prob
from keras_uq_layers.numerics.truncated_normal import truncated_normal_moments

__all__ = [
    "POSITIVE_FLOOR",
    "SCALE_FLOOR",
    "at_least_float32",
    "beta_crps",
    "beta_log_prob",
    "betainc",
    "betainc_tails",
    "bump",
    "bump_threshold",
    "censored_normal_cdf",
    "censored_normal_crps",
    "censored_normal_log_prob",
    "censored_normal_moments",
    "deviance",
    "bernoulli_entropy",
    "bernoulli_log_prob",
    "categorical_entropy",
    "categorical_log_prob",
    "divide",
    "gamma_cdf",
    "gamma_crps",
    "gamma_log_prob",
    "gammainc",
    "gammaincc",
    "i0e",
    "i1e",
    "laplace_cdf",
    "laplace_crps",
    "laplace_log_prob",
    "laplace_quantile",
    "lgamma",
    "log1p_minus",
    "log_beta",
    "log_ndtr",
    "log_ndtr_scaled",
    "log_normal_cdf",
    "log_normal_crps",
    "log_normal_log_prob",
    "masked_mean",
    "monotone_root",
    "multivariate_normal_log_prob",
    "ndtri",
    "negative_binomial_cdf",
    "negative_binomial_log_prob",
    "normal_cdf",
    "normal_crps",
    "normal_kl",
    "normal_log_prob",
    "normal_mixture_cdf",
    "normal_mixture_crps",
    "normal_mixture_log_prob",
    "normal_quantile",
    "pinball",
    "poisson_cdf",
    "poisson_crps",
    "poisson_log_prob",
    "position_mask",
    "position_weights",
    "positive",
    "positive_inverse",
    "stirling_error",
    "student_t_cdf",
    "student_t_crps",
    "student_t_log_prob",
    "truncated_normal_cdf",
    "truncated_normal_crps",
    "truncated_normal_log_prob",
    "truncated_normal_moments",
    "where_valid",
    "widen",
    "within_support",
]

_namespace.define(__name__)
