"""The concordance index and the Brier score of censored times."""

import numpy as np
import pytest

import keras_uq_layers as uq

concordance_index = uq.metrics.concordance_index
brier = uq.metrics.censored_brier_score

# Ties among the times, among the predictions, and of an event with a censoring.
ROW = np.arange(40)
TIME = 1.0 + (7 * ROW) % 23
EVENT = ROW % 3 > 0
PREDICTED = 1.0 + (11 * ROW) % 17 / 2 + TIME // 6
Y = uq.targets.survival(TIME, EVENT)


def test_the_index_is_that_of_lifelines_and_scikit_survival():
    """lifelines 0.30.3, scikit-survival 0.28.0, on the arrays above:

    lifelines.utils.concordance_index(TIME, PREDICTED, EVENT)
    sksurv.metrics.concordance_index_censored(EVENT, TIME, -PREDICTED)[0]
    """
    assert concordance_index(Y, PREDICTED) == pytest.approx(0.6817307692307693)
    assert concordance_index(Y, -PREDICTED) == pytest.approx(1 - 0.6817307692307693)
    assert concordance_index(Y, np.zeros((40, 1))) == 0.5


@pytest.mark.parametrize(
    ("time", "own", "of_others"),
    [
        (3.0, 0.21526581, 0.20601465),
        (10.0, 0.41510447, 0.39810897),
        (17.5, 0.30131697, 0.3390943),
    ],
)
def test_the_brier_score_is_that_of_scikit_survival(time, own, of_others):
    """scikit-survival 0.28.0, with y = Surv.from_arrays(EVENT, TIME):

    sksurv.metrics.brier_score(y, y, survival, time)[1]
    sksurv.metrics.brier_score(y[:30], y[:20], survival[:20], time)[1]
    """
    survival = np.exp(-time / PREDICTED)
    assert brier(Y, survival, time) == pytest.approx(own, abs=1e-8)
    found = brier(Y[:20], survival[:20, None], time, y_train=Y[:30])
    assert found == pytest.approx(of_others, abs=1e-8)


def test_without_censoring_it_is_the_plain_score():
    y = uq.targets.survival(TIME, np.ones(40))
    survival = 1.0 / PREDICTED
    plain = np.mean((survival - (TIME > 9.0)) ** 2)
    assert brier(y, survival, 9.0) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: concordance_index(TIME, PREDICTED), r"`y` must hold exact or right-"),
        (
            lambda: concordance_index(uq.targets.rounded(TIME, 1), PREDICTED),
            "`y` must hold exact or right-censored times",
        ),
        (lambda: concordance_index(Y, PREDICTED[:3]), "of the 40 rows of `y`"),
        (lambda: concordance_index(Y[:1], [2.0]), "one is known to be shorter"),
        (lambda: concordance_index(Y, np.full(40, np.nan)), "40 NaN"),
        (lambda: brier(Y, PREDICTED, 3.0), "`survival` must be a probability .*=7.5"),
        (lambda: brier(Y, 0 * PREDICTED, -1.0), "`time` must be a non-negative"),
        (
            lambda: brier(Y, 0 * PREDICTED, 20.0, [[1.0, 1.0], [2.0, np.inf]]),
            "before which not all rows .*time=20.0, and 2 as the last",
        ),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()
