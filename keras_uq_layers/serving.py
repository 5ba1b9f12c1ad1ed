"""A model that answers with moments, an interval and a decision, to be exported."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_uq_layers import _keras
from keras_uq_layers import arguments
from keras_uq_layers import families
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Identifier
from keras_uq_layers._typing import Shape
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration import SelectivePrediction
from keras_uq_layers.families._classes import ClassFamily
from keras_uq_layers.reading import family_of
from keras_uq_layers.registration import register

# They leave the bracket of a float32 quantile with less than its last bit.
_BISECTIONS = 30


def serving_model(
    model: keras.Model,
    family: Identifier = None,
    level: float = 0.95,
    selection: SelectivePrediction | None = None,
) -> keras.Model:
    """The model with its params read: mean, std and interval, by name.

    ```
    {"mean": ..., "std": ..., "lower": ..., "upper": ..., "accept": ...}
    lower, upper = quantiles(1 - level) / 2 and (1 + level) / 2
    accept = score <= threshold of `selection`, where it is given
    ```

    For those who do not know what params are: a server, a phone, a program in
    another language. The result is an ordinary Functional model that shares
    the layers of `model`, to be saved with `save` or handed over with
    `export`. What a family does not define is left out: `Quantiles` has no
    mean and no std, `"categorical"` no interval. The mean of a class is its
    probability. A plain Keras model, such as one that ends in `Dense(1)`, has a
    mean alone.

    Of an `uq.Ensemble` it answers with the mean, the standard deviation and
    the interval of the mixture of the members, as `uq.predict` does. The ends
    of that interval are found by bisection in the graph.

    It runs once: of a random model it describes one draw. Give it
    `uq.to_deterministic(model)` for a fixed answer, or use `uq.predict` for
    the mixture over draws.

    Args:
        model: A Sequential or Functional model with one output, a params
            tensor `(batch, ..., P * D)`, or an `Ensemble` of such models.
        family: Name or object of the family of that output. None: that of the
            model's head, else of its compiled loss, else the one that
            `uq.predict` chooses.
        level: Probability of the central interval, inside (0, 1).
        selection: A fitted `uq.calibration.SelectivePrediction` whose score is a
            name, or None. It adds the output `accept`.

    Returns:
        A Functional `keras.Model` with the inputs of `model`. Its output is a
        dict of tensors `(batch, ..., D)`, in the unit of y; `accept` is a tensor
        of booleans, `(batch,)`.

    Raises:
        ValueError: `model` is not built or subclassed, calls a random layer
            of Keras with `training=True`, has an output that does not fit the
            family, or `level` is outside (0, 1) or outside of the levels of
            `Quantiles`; or `selection` is not fitted, or has a score that is a
            function, or that the model does not have.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), uq.DistributionHead(1)])
    >>> served = uq.serving_model(model, level=0.9)
    >>> answer = served.predict(np.ones((4, 3)), verbose=0)
    >>> {name: values.shape for name, values in answer.items()}
    {'mean': (4, 1), 'std': (4, 1), 'lower': (4, 1), 'upper': (4, 1)}
    """
    members = getattr(model, "members", [model])
    if not isinstance(model, keras.Model) or not all(
        getattr(member, "inputs", None) for member in members
    ):
        raise arguments.error(
            "model",
            "a built Sequential or Functional Keras model, or an `Ensemble` of them",
            model,
        )
    for layer in _keras.called_in_training(model):
        raise ValueError(
            "`model` must not call a random layer with `training=True`, which Keras "
            "ignores in `predict` and in a saved model. Give "
            f"`uq.to_deterministic(model)` for a fixed answer. Received: {layer}"
        )
    outputs = members[0].outputs
    if len(outputs) != 1:
        raise ValueError(
            "`model` must have one output, a tensor of params. Received: a model "
            f"with {len(outputs)} outputs"
        )
    first = members[0]
    inputs = _keras.symbolic_inputs(first)
    params = outputs[0]
    member_axis = getattr(model, "member_axis", None)
    if member_axis is not None:
        inputs = keras.tree.map_structure(_input_like, inputs)
        params = model(inputs)
    (read_by,) = keras.tree.flatten(family_of(model, family))
    _check_level(read_by, level, params.shape[-1])
    selected = None
    if selection is not None:
        selected = _check_selection(selection, read_by, params.shape, member_axis)
    answer = _Answer(read_by, level, member_axis, selected, name="answer")
    return keras.Model(inputs, answer(params), name=model.name)


def _check_selection(
    selection: SelectivePrediction,
    family: families.Family,
    shape: Shape,
    member_axis: int | None,
) -> tuple[str, float]:
    """Name of the score, and threshold."""
    fitted = isinstance(selection, SelectivePrediction)
    if not fitted or selection.threshold is None or callable(selection.score):
        raise arguments.error(
            "selection",
            "a fitted `SelectivePrediction` with the name of a score",
            selection,
        )
    score, one = selection.score, member_axis is None
    categorical = isinstance(family, families.Categorical)
    if score in ("mutual_information", "epistemic_std") and one:
        needs = "an `Ensemble`: one pass does not differ from itself"
    elif score == "std" and isinstance(family, families.Point) and one:
        needs = "one with a std"
    elif not score.endswith("std") and not isinstance(family, ClassFamily):
        needs = "one of classes"
    elif len(shape) != (2 if one else 3) or (
        family.units(shape[-1]) != 1 and (score.endswith("std") or not categorical)
    ):
        needs = "one with a single output for each example"
    else:
        return score, selection.threshold
    raise ValueError(
        f"`model` must be {needs}, for the score {score!r} of `selection`. Received: "
        f"params of shape {shape} of the family {family!r}"
    )


def _check_level(family: families.Family, level: float, width: int) -> None:
    """Some families know quantiles at some levels only, and say so themselves.

    Keras would repeat their error inside of one about the call of a layer.
    """
    typical = family.constrain(np.zeros((1, width), "float32"))
    try:
        family.interval(level, typical)
    except NotImplementedError:
        return  # no interval is served


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


@register("serving.Answer")
class _Answer(keras.layers.Layer):
    """From params to the dict that `serving_model` documents."""

    def __init__(
        self,
        family: Identifier,
        level: float,
        member_axis: int | None = None,
        selected: tuple[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.family = families.get(family)
        self.level = arguments.open_probability("level", level)
        self.member_axis = member_axis
        self.selected = selected

    def call(self, inputs: Tensor) -> dict[str, Tensor]:
        reader: Any = self.family
        if isinstance(reader, families.Point) and self.member_axis is None:
            return {"mean": reader.mean(inputs)}  # An interval of width 0 would lie.
        samples = inputs[None]
        if self.member_axis is not None:
            reader = _Mixture(self.family)
            inputs = samples = ops.moveaxis(inputs, self.member_axis, 0)
        statistics = [
            lambda: {"mean": reader.mean(inputs)},
            lambda: {"std": ops.sqrt(reader.variance(inputs))},
            lambda: _ends(*reader.interval(self.level, inputs)),
        ]
        answer = {}
        for statistic in statistics:
            # Some families do not define all of them.
            with contextlib.suppress(NotImplementedError):
                answer.update(statistic())
        if self.selected is not None:
            score, threshold = self.selected
            answer["accept"] = _Mixture(self.family).score(score, samples) <= threshold
        return answer

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "family": families.serialize(self.family),
            "level": self.level,
            "member_axis": self.member_axis,
            "selected": self.selected,
        }


def _ends(lower: Tensor, upper: Tensor) -> dict[str, Tensor]:
    return {"lower": lower, "upper": upper}


class _Mixture:
    """Reads params `(M, ..., P * D)` as a mixture of `M` components, in a graph.

    `prediction.mixture` does the same in NumPy, in float64.
    """

    def __init__(self, family: families.Family) -> None:
        self.family = family

    def mean(self, samples: Tensor) -> Tensor:
        return ops.mean(self.family.mean(samples), axis=0)

    def variance(self, samples: Tensor) -> Tensor:
        """The law of total variance."""
        means = self.family.mean(samples)
        within = ops.mean(self.family.variance(samples), axis=0)
        return within + ops.var(means, axis=0)

    def score(self, name: str, samples: Tensor) -> Tensor:
        """The score of that name of a `SelectivePrediction`: `(...)`."""
        if name == "std":
            return ops.sqrt(self.variance(samples))[..., 0]
        if name == "epistemic_std":
            return ops.std(self.family.mean(samples), axis=0)[..., 0]
        p = self.mean(samples)
        if isinstance(self.family, families.Bernoulli):
            p = ops.concatenate([1.0 - p, p], axis=-1)
        if name == "error_probability":
            return 1.0 - ops.max(p, axis=-1)
        entropy = families.Categorical(from_logits=False).entropy(p)
        if name == "entropy":
            return entropy
        within = self.family.entropy(samples)
        one = len(within.shape) == len(samples.shape)  # Bernoulli: for each output
        return entropy - ops.mean(within[..., 0] if one else within, axis=0)

    def interval(self, level: float, samples: Tensor) -> tuple[Tensor, Tensor]:
        # (ends, M, ..., D): one search for both ends.
        components = ops.stack(self.family.interval(level, samples))
        samples = ops.repeat(samples[None], 2, axis=0)
        tails = [0.5 - 0.5 * level, 0.5 + 0.5 * level]
        p = ops.convert_to_tensor(tails, dtype=components.dtype)
        p = ops.reshape(p, (2, *[1] * (len(components.shape) - 2)))
        bounds = ops.min(components, axis=1), ops.max(components, axis=1)

        def halve(_: Any, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            low, high = bounds
            middle = 0.5 * low + 0.5 * high
            y = ops.repeat(middle[:, None], samples.shape[1], axis=1)
            reached = ops.mean(self.family.cdf(y, samples), axis=1) >= p
            return ops.where(reached, low, middle), ops.where(reached, middle, high)

        _, high = ops.fori_loop(0, _BISECTIONS, halve, bounds)
        lower, upper = ops.unstack(ops.round(high) if self.family.discrete else high, 2)
        return lower, upper
