"""A model that answers with moments and an interval, to be exported."""

from typing import Any

import keras
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Tensor
from keras_uq_layers.reading import family_of
from keras_uq_layers.registration import register


def serving_model(
    model: keras.Model, family: Identifier = None, level: float = 0.95
) -> keras.Model:
    """The model with its params read: mean, std and interval, by name.

    ```
    {"mean": ..., "std": ..., "lower": ..., "upper": ...}
    lower, upper = quantiles(1 - level) / 2 and (1 + level) / 2
    ```

    For those who do not know what params are: a server, a phone, a program in
    another language. The result is an ordinary Functional model that shares
    the layers of `model`, to be saved with `save` or handed over with
    `export`. What a family does not define is left out: `Quantiles` has no
    mean and no std, `"categorical"` no interval. The mean of a class is its
    probability.

    It runs once: of a random model it describes one draw. Give it
    `uq.to_deterministic(model)` for a fixed answer, or use `uq.predict` for
    the mixture over draws.

    Args:
        model: A Sequential or Functional model with one output, a params
            tensor `(batch, ..., P * D)`.
        family: Name or object of the family of that output. None: that of the
            model's head, else of its compiled loss.
        level: Probability of the central interval, inside (0, 1).

    Returns:
        A Functional `keras.Model` with the inputs of `model`. Its output is a
        dict of tensors `(batch, ..., D)`, in the unit of y.

    Raises:
        ValueError: `model` is not built or subclassed, its output does not
            fit the family, or `level` is outside (0, 1).

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), uq.DistributionHead(1)])
    >>> served = uq.serving_model(model, level=0.9)
    >>> answer = served.predict(np.ones((4, 3)), verbose=0)
    >>> {name: values.shape for name, values in answer.items()}
    {'mean': (4, 1), 'std': (4, 1), 'lower': (4, 1), 'upper': (4, 1)}
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise arguments.error(
            "model", "a built Sequential or Functional Keras model", model
        )
    if len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one output, a tensor of params. Received: a model "
            f"with {len(model.outputs)} outputs"
        )
    answer = _Answer(family_of(model, family), level, name="answer")
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.Model(inputs, answer(model.outputs[0]), name=model.name)


@register("serving.Answer")
class _Answer(keras.layers.Layer):
    """From params to the dict that `serving_model` documents."""

    def __init__(self, family: Identifier, level: float, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.family = families.get(family)
        self.level = arguments.open_probability("level", level)

    def call(self, inputs: Tensor) -> dict[str, Tensor]:
        family = self.family
        statistics = {
            "mean": lambda: family.mean(inputs),
            "std": lambda: ops.sqrt(family.variance(inputs)),
            "lower": lambda: family.interval(self.level, inputs)[0],
            "upper": lambda: family.interval(self.level, inputs)[1],
        }
        answer = {}
        for name, statistic in statistics.items():
            try:
                answer[name] = statistic()
            except NotImplementedError:
                continue  # not defined for this family
        return answer

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "family": families.serialize(self.family),
            "level": self.level,
        }
