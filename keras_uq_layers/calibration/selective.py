from collections.abc import Callable
from typing import Any
from typing import Self

import keras
import numpy as np

from keras_uq_layers import arguments
from keras_uq_layers._typing import Array
from keras_uq_layers._typing import Config
from keras_uq_layers._typing import Tensor
from keras_uq_layers.calibration._base import Calibrator
from keras_uq_layers.calibration._base import as_rows
from keras_uq_layers.prediction import Moments
from keras_uq_layers.prediction.uncertainty import SCORES
from keras_uq_layers.prediction.uncertainty import loss_of
from keras_uq_layers.prediction.uncertainty import uncertainty
from keras_uq_layers.registration import register

# More thresholds find a better one, and cost held-out rows.
_THRESHOLDS = 40
_ROWS_FOR_A_THRESHOLD = 10


@register("calibration.SelectivePrediction")
class SelectivePrediction(Calibrator):
    """Says which predictions to accept, so that few of the accepted are wrong.

    ```
    accept(x) = score(x) <= threshold
    P(mean loss of accepted examples <= risk) >= confidence
    ```

    The score says how unsure the model is. `fit` finds a threshold that accepts
    many examples. The examples that are not accepted go to a person, to a larger
    model, or get the answer "I do not know".

    The guarantee holds for any model and any score, where new examples come from
    the distribution of the held-out rows. The probability is over the held-out
    rows: of 20 calibrations at a confidence of 0.95, one may have a threshold
    with a higher risk. It does not hold after a shift of the distribution: the
    inputs of another camera, or classes that the model has never seen, may get
    confident and wrong answers. See `uq.novelty` for these.

    The search tests about 40 thresholds, which are the scores of held-out rows
    that are used for nothing else. Each test asks whether the losses of the
    accepted rows could come from a higher risk. For errors, and for any loss that
    returns booleans, it is the exact binomial test (the bound of Clopper and
    Pearson). For other losses it is the Hoeffding-Bentkus test. The tests go from
    the lowest threshold up, and a test that passes hands its level to the next
    one (the fallback procedure). This finds larger thresholds than a level that
    is divided equally among all tests, as in the union bound of Geifman and
    El-Yaniv.

    Args:
        risk: Largest mean loss among accepted examples, inside (0, 1).
        confidence: Probability that the risk is not above, inside (0, 1).
        score: How unsure a prediction is: `"error_probability"` (1 less the
            largest probability), `"entropy"`, `"mutual_information"`, `"std"` or
            `"epistemic_std"` of the prediction; or a function of the prediction
            that returns one number for each example, larger where it is less
            sure.
        loss: How wrong a prediction is: `"error"`, whether the most likely class
            is the wrong one; or a function of the prediction and y that returns
            one boolean or one number from 0 to 1 for each example.
        seed: Integer seed of the choice of the rows that give the thresholds.
        threshold: The fitted state, for loading; infinity where all examples are
            accepted.

    A function is saved by its name: register it with
    `keras.saving.register_keras_serializable`.

    Raises:
        ValueError: `risk` or `confidence` is not inside (0, 1), `score` or `loss`
            is neither such a name nor a function, or `threshold` is NaN.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.5, 1.0, size=4000)  # of a calibrated model
    >>> y = (rng.uniform(size=4000) > p).astype(int)
    >>> prediction = np.stack([p, 1 - p], axis=1)
    >>> selective = uq.calibration.SelectivePrediction(risk=0.1)
    >>> accepted = selective.fit(prediction, y).accept(prediction)
    >>> bool(0.2 < accepted.mean() < 0.4), bool(y[accepted].mean() < 0.1)
    (True, True)

    References:
        Geifman & El-Yaniv, 2017, "Selective Classification for Deep Neural
        Networks", NeurIPS, arXiv:1705.08500. Angelopoulos et al., 2021, "Learn
        then Test: Calibrating Predictive Algorithms to Achieve Risk Control",
        arXiv:2110.01052. Wiens, 2003, "A Fixed Sequence Bonferroni Procedure for
        Testing Multiple Endpoints", Pharmaceutical Statistics 2(3).
    """

    def __init__(
        self,
        risk: float = 0.01,
        confidence: float = 0.95,
        score: str | Callable[[Any], Any] = "error_probability",
        loss: str | Callable[[Any, Any], Any] = "error",
        seed: int = 0,
        threshold: float | None = None,
    ) -> None:
        self.risk = arguments.open_probability("risk", risk)
        self.confidence = arguments.open_probability("confidence", confidence)
        self.score = _function("score", score, SCORES)
        self.loss = _function("loss", loss, ("error",))
        self.seed = seed
        if threshold is not None and np.isnan(threshold):
            raise arguments.error("threshold", "a number, not NaN", threshold)
        self.threshold = threshold

    def fit(self, prediction: Moments | Array, y: Tensor) -> Self:
        """Finds the threshold from data that the model was not trained on.

        Args:
            prediction: What `uq.predict` returns for N examples; or an array of
                probabilities `(N, K)` of any other library; or what the functions
                `score` and `loss` take.
            y: Labels `(N,)` or `(N, 1)`, whole numbers from 0 to `K - 1`; or what
                the function `loss` takes.

        Returns:
            The calibrator itself.

        Raises:
            ValueError: The prediction has no such score, scores are not finite, a
                loss is outside of [0, 1], shapes do not agree, or no threshold
                has the guarantee. The message then says how many rows would be
                needed.
        """
        scores = as_rows(uncertainty(prediction, self.score)[:, None])[:, 0]
        losses = _checked(loss_of(prediction, y, self.loss), len(scores))
        rows = np.random.default_rng(self.seed).permutation(len(scores))
        kept = min(_THRESHOLDS, max(1, len(rows) // _ROWS_FOR_A_THRESHOLD))
        # The rows that give thresholds are not tested. Thresholds at quantiles of the
        # tested rows would be random hypotheses, which a sequence of tests does not
        # allow: it rests on the first threshold whose risk is too high.
        thresholds = np.append(np.sort(scores[rows[: kept - 1]]), np.inf)
        tested = rows[kept - 1 :]
        accepted = scores[tested] <= thresholds[:, None]
        count, total = accepted.sum(axis=1), accepted @ losses[tested].astype(float)
        exact = losses.dtype == bool
        passed = self._passed(_p_values(count, total, self.risk, exact), len(tested))
        if not passed.any():
            raise self._needs_more(count, total, exact, len(scores))
        self.threshold = float(thresholds[passed].max())
        return self

    def _passed(self, p_values: Array, rows: int) -> Array:
        """Which thresholds pass, from the lowest up, by the fallback procedure.

        A half of the level enters at the first threshold that can pass without a
        loss. It is lost at the first failure; the other half enters later, where
        so many rows are accepted that one loss does not decide.
        """
        expected = np.arange(1, len(p_values) + 1) / len(p_values) * rows
        # 5 % more, since the number of accepted rows is random.
        first = 1.05 * _needed(self.risk, 0.5 * self._level)
        levels = np.zeros(len(p_values))
        for entry in (first, np.sqrt(first * rows)):
            at = min(int(np.searchsorted(expected, entry)), len(levels) - 1)
            levels[at] += 0.5 * self._level
        passed = np.zeros(len(p_values), dtype=bool)
        inherited = 0.0
        for i, p_value in enumerate(p_values):
            level = levels[i] + inherited
            passed[i] = p_value < level
            inherited = level if passed[i] else 0.0
        return passed

    @property
    def _level(self) -> float:
        return 1.0 - self.confidence

    def _needs_more(
        self, count: Array, total: Array, exact: bool, rows: int
    ) -> ValueError:
        """The error where no threshold passes."""
        start = (
            f"`risk={self.risk:g}` at `confidence={self.confidence:g}` must have more "
            "held-out rows, or a better score"
        )
        received = f"Received: {rows} row(s)"
        needed = _needed(self.risk, self._level)
        if rows < needed:
            return ValueError(
                f"{start}: at least {needed} rows, if none of the accepted ones is "
                f"wrong. {received}"
            )
        used = count > 0
        mean = total[used] / count[used]
        for factor in 1.1 ** np.arange(1, 100):
            p_values = _p_values(
                (factor * count).astype(int), factor * total, self.risk, exact
            )
            if p_values.min() < 0.5 * self._level:
                return ValueError(
                    f"{start}: about {int(np.ceil(factor * rows))} rows, if the mean "
                    f"losses stay as they are. {received}, and a mean loss of "
                    f"{mean.min():.2g} at the best threshold"
                )
        return ValueError(
            f"{start}: no threshold has a mean loss below {self.risk:g} on these rows. "
            f"{received}, and a mean loss of {mean.min():.2g} at the best threshold"
        )

    def accept(self, prediction: Moments | Array) -> Array:
        """Which predictions to accept: booleans `(N,)`.

        Args:
            prediction: As for `fit`, of the examples in question. An example whose
                score is NaN is not accepted.
        """
        threshold = self._require_fit(self.threshold)
        return uncertainty(prediction, self.score) <= threshold

    def get_config(self) -> Config:
        return {
            "risk": self.risk,
            "confidence": self.confidence,
            "score": _saved("score", self.score),
            "loss": _saved("loss", self.loss),
            "seed": self.seed,
            "threshold": self.threshold,
        }


def _needed(risk: float, level: float) -> int:
    """How many accepted rows without a loss pass a test at this level."""
    return int(np.floor(np.log(level) / np.log1p(-risk))) + 1


def _p_values(count: Array, total: Array, risk: float, exact: bool) -> Array:
    """Probability of losses as small as these, if their mean were above `risk`.

    Args:
        count: How many rows are accepted, one number for each threshold.
        total: The sum of their losses.
        risk: Mean loss that is tested.
        exact: Whether losses are 0 or 1: else the test is the one of
            Hoeffding-Bentkus (Angelopoulos et al. 2021, proposition 3).
    """
    from scipy.special import bdtr
    from scipy.special import xlogy

    if exact:
        p_value = bdtr(np.floor(total), count, risk)
    else:
        mean = np.minimum(total / np.maximum(count, 1), risk)
        divergence = xlogy(mean, mean / risk) + xlogy(
            1.0 - mean, (1.0 - mean) / (1.0 - risk)
        )
        # The sum of floats is a little off: without it, an integer rounds up.
        bentkus = np.e * bdtr(np.ceil(total - 1e-9), count, risk)
        p_value = np.minimum(np.exp(-count * divergence), bentkus)
    return np.where(count > 0, p_value, 1.0)


def _checked(losses: Array, rows: int) -> Array:
    if losses.shape != (rows,):
        raise ValueError(
            f"`loss` must be one number for each of the {rows} example(s). Received: "
            f"numbers of shape {losses.shape}"
        )
    if not ((losses >= 0) & (losses <= 1)).all():
        raise ValueError(
            "`loss` must be between 0 and 1. Received: numbers from "
            f"{losses.min():g} to {losses.max():g}"
        )
    return losses


def _function(name: str, value: Any, names: tuple[str, ...]) -> Any:
    """A name, or a function: given, or as `_saved` writes it."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return value if callable(value) else arguments.one_of(name, value, names)


def _saved(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    registered = keras.saving.get_registered_name(value)
    if keras.saving.get_registered_object(registered) is not value:
        raise arguments.error(
            name,
            "a name, or a function registered with "
            "`keras.saving.register_keras_serializable`, to be saved",
            value,
        )
    return keras.saving.serialize_keras_object(value)
