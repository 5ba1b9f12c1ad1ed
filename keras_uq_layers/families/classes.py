"""What the families of classes share."""

from keras_uq_layers.families.base import Family


class ClassFamily(Family):
    """Abstract: a family whose params are logits and whose `y` is a class.

    Its `mean` is a probability, and uncertainty is measured by an `entropy`.
    """

    parameters = ("logits",)
    lower, upper, closed = 0.0, 1.0, True
    target_unit = None
    independent = True

    def outside_support(self, y):
        """Where an aligned `y` is no probability. NaN is not outside."""
        return (y < 0) | (y > 1)

    def constrain_parts(self, logits, *, scale_floor):
        return (logits,)

    def unconstrain_parts(self, logits, *, scale_floor):
        return (logits,)

    def initial_parts(self, scale):
        # Every class as likely as any other: there is no scale.
        return (0.0,)

    def quantile(self, p, params):
        """Classes have no order: an error, except where a subclass has one."""
        raise self._missing("quantile", "`mean`, the probabilities,")

    def entropy(self, params):
        """Entropy of the predicted distribution, in nats."""
        raise self._missing("entropy")

    def top_label(self, y, params):
        """The confidence in the most likely class, and whether it was right.

        Args:
            y: As for `log_prob`.
            params: Tensor of logits.

        Returns:
            Two tensors of the same shape: the probability of that class, and
            its share in `y` (1 or 0 for labels).
        """
        raise self._missing("top_label")
