from keras_uq_layers import numerics
from keras_uq_layers.families._bounded import BoundedNormal
from keras_uq_layers.registration import register


@register("families.TruncatedNormal")
class TruncatedNormal(BoundedNormal):
    """Normal cut off at bounds, with params `[loc | scale]` before the cut.

    ```
    log p(y) = log N(y; loc, scale)
             - log(Phi((upper - loc) / scale) - Phi((lower - loc) / scale))
    ```

    Values outside the bounds are impossible, and do not pile up at them as
    they do for a `CensoredNormal`: wind speeds, concentrations. `mean` and
    `variance` are those of `y`, within the bounds.

    The bounds are in the unit of `y`, also for a head that was adapted: that
    one moves `loc` and `scale` only.

    Args:
        lower: Lower bound, or None for none.
        upper: Upper bound, or None for none.

    Raises:
        ValueError: `lower` is not below `upper`.

    Example:

    >>> family = uq.families.TruncatedNormal(lower=0.0)
    >>> params = np.array([[0.0, 1.0]])
    >>> round(float(family.log_prob(np.array([0.0]), params)[0]), 4)
    -0.2258

    Reference:
        Thorarinsdottir & Gneiting, 2010, "Probabilistic forecasts of wind
        speed", JRSS A 173(2), doi:10.1111/j.1467-985X.2009.00616.x.
    """

    name = "truncated_normal"

    def _arguments(self, params):
        return (*self.split(params), self.lower, self.upper)

    def _moments(self, params):
        return numerics.truncated_normal_moments(*self._arguments(params))

    def marginal_log_prob(self, y, params):
        return numerics.truncated_normal_log_prob(
            self.align(y, params), *self._arguments(params)
        )

    def cdf(self, y, params):
        return numerics.truncated_normal_cdf(
            self.align(y, params), *self._arguments(params)
        )

    def crps(self, y, params):
        return numerics.truncated_normal_crps(
            self.align(y, params), *self._arguments(params)
        )
