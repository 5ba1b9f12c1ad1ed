import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers.doctor import data
from keras_uq_layers.doctor import far_away
from keras_uq_layers.doctor import finiteness
from keras_uq_layers.doctor import heldout
from keras_uq_layers.doctor import kl
from keras_uq_layers.doctor import loss as losses
from keras_uq_layers.doctor import sampling
from keras_uq_layers.doctor import shapes
from keras_uq_layers.doctor.context import Context
from keras_uq_layers.doctor.findings import Diagnosis
from keras_uq_layers.doctor.findings import Finding
from keras_uq_layers.doctor.findings import Findings

# Each module lists its own checks, functions from the context to findings.
_MODULES = (data, shapes, finiteness, losses, kl, sampling, heldout, far_away)


def diagnose(
    model: keras.Model,
    x: Any,
    y: Any = None,
    loss: Any = None,
    *,
    sample_weight: Any = None,
    validation_data: Any = None,
    training_size: int | None = None,
) -> Diagnosis:
    """Finds out from one batch why a model does not train.

    It runs one pass forward and back, eagerly, as `fit` would do it, and looks
    at every layer in the order of execution. The model stays as it is:
    weights, optimizer, seeds, metrics and the compiled loss. A model that is
    not built is built, as by its first call.

    It works for any Keras model: Sequential, Functional, subclassed, nested. If
    the model has a `train_step` of its own, the diagnosis sees the compiled
    loss and nothing else of that step.

    The findings, by code:

    - data: `data-not-finite`, `targets-outside-support`, `saturated`;
    - gradients: `no-gradient`, `zero-gradient`, `gradient-not-finite`,
      `output-not-finite`, `weight-not-finite`, `loss-not-finite`,
      `gradient-failed`, `no-trainable-weights`;
    - the loss: `targets-not-probabilities`, `logits-as-probabilities`,
      `probabilities-as-logits`, `scale-at-floor`, `scale-not-positive`,
      `log-variance-as-scale`, `absolute-residual`, `scale-far-too-small`,
      and, a note, `negative-loss`;
    - the KL: `kl-negative`, `kl-weight`, `kl-dominates`, `kl-against-mean`,
      `kl-twice`, `collapsed-to-prior`, `posterior-too-wide`;
    - shapes and families: `shapes-broadcast`, `wrong-outputs`, `call-failed`,
      `family-mismatch`, `no-family`, `loss-on-params`, `metric-on-params`,
      `accuracy-of-logits`, `layer-after-head`;
    - randomness and saving: `no-seed-generator`, `not-registered`,
      `no-config`, and, notes, `samples-at-inference`,
      `deterministic-at-inference`;
    - far outside of the batch, a note: `blind-far-away`;
    - with `validation_data`: `over-confident`, `variance-collapse`;
    - a note, `check-skipped`: code of the model or the loss raised an error
      where a check called it again.

    On JAX a weight that the loss does not depend on has a gradient of 0: there
    `no-gradient` is reported as `zero-gradient`.

    Args:
        model: A Keras model.
        x: Inputs of one batch: array, or list or dict of arrays. Or a dataset
            of batches (`tf.data`, `keras.utils.PyDataset`, a `DataLoader` of
            PyTorch, a generator): its first batch, with `y` and weights.
        y: Targets of the batch, or None.
        loss: As for `compile`. None: that of the compiled model.
        sample_weight: As for `fit`.
        validation_data: Tuple `(x, y)`, or a dataset of which the first batch is
            taken, that the model was not trained on: for the checks of its
            uncertainty; at least 30 rows.
        training_size: Number of training examples, to judge the weight of a
            KL of weights. None: at least those of the batch.

    Returns:
        A `Diagnosis`. It prints as a table, and has `ok`, `problems`, `findings`.

    Raises:
        ValueError: `model` is not a Keras model; `training_size` is not a
            positive integer; x is a dataset, and y or weights are given too.

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> x = np.array([[1.0], [2.0], [np.nan]])
    >>> uq.diagnose(model, x, np.ones(3), loss="mse").problems[0].code
    'data-not-finite'
    """
    if not isinstance(model, keras.Model):
        raise arguments.error("model", "a Keras model", model)
    if training_size is not None:
        training_size = arguments.positive_int("training_size", training_size)
    # The findings say what NumPy and Keras would warn of.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        context = Context(
            model, x, y, loss, sample_weight, training_size, validation_data
        )
        found = [
            finding
            for module in _MODULES
            for check in module.CHECKS
            for finding in _findings(check, context)
        ]
    found.sort(key=lambda finding: not finding.problem)
    return Diagnosis(tuple(found), _summary(context))


def _findings(check: Callable[[Context], Findings], context: Context) -> Findings:
    """The findings of one check; a note where code of the user stopped it."""
    try:
        yield from check(context)
    except Exception as error:
        name = check.__name__.replace("_", "-")
        message = " ".join(str(error).split())[:200]
        yield Finding(
            "check-skipped",
            name,
            f"{type(error).__name__}: {message}",
            "The check calls the model, a layer or the loss again, with other inputs "
            "or on single rows, and that failed. The other checks are not affected.",
            problem=False,
        )


def _summary(context: Context) -> str:
    if context.loss is None:
        return f"{context.model.name}: {context.rows} rows, no loss"
    parts = []
    if context.data_loss is not None:
        parts.append(f"compiled loss {context.data_loss:.4g}")
    if context.added:
        parts.append(f"added by layers {sum(a.value for a in context.added):.4g}")
    text = f"{context.model.name}: {context.rows} rows, loss {context.loss:.4g}"
    return f"{text} ({', '.join(parts)})" if parts else text
