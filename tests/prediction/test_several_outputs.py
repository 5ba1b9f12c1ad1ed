"""Models with several outputs: the same structure of predictions."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import inputs
from small_models import predict
from small_models import with_one_warning

import keras_uq_layers as uq
from keras_uq_layers.families import Categorical
from keras_uq_layers.families import Gamma
from keras_uq_layers.families import Laplace
from keras_uq_layers.families import Point

X = inputs(8)


def outputs(h, plain=None):
    """Not in the order of the alphabet, and `plain` of no random layer."""
    return {
        "rain": uq.DistributionHead(1, "gamma", name="rain")(h),
        "cloud": layers.Dense(3, "softmax", name="cloud")(h),
        "heat": layers.Dense(1, name="heat")(h if plain is None else plain),
    }


FAMILIES = {"rain": Gamma(), "cloud": Categorical(from_logits=False), "heat": Point()}
STRUCTURES = {
    "dict": dict,
    "list": lambda given: list(given.values()),
    "tuple": lambda given: tuple(given.values()),
    "nested": lambda given: {"sky": list(given.values())[:2], "heat": given["heat"]},
}


def functional(structure):
    x = keras.Input((3,))
    return keras.Model(x, structure(outputs(uq.MCDropout(0.5)(x), plain=x)))


class Subclassed(keras.Model):
    def __init__(self, structure):
        super().__init__()
        self.structure = structure
        self.dropout = uq.MCDropout(0.5)
        self.heads = [
            uq.DistributionHead(1, "gamma"),
            layers.Dense(3, "softmax"),
            layers.Dense(1),
        ]

    def call(self, inputs):
        parts = [self.dropout(inputs)] * 2 + [inputs]
        found = [head(h) for head, h in zip(self.heads, parts, strict=True)]
        return self.structure(dict(zip(FAMILIES, found, strict=True)))


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("kind", [functional, Subclassed])
def test_the_structure_of_the_output(kind, name):
    structure = STRUCTURES[name]
    model = kind(structure)
    # A subclassed model does not tell a softmax from a sigmoid.
    family = None if kind is functional else structure(FAMILIES)
    found = predict(model, X, family=family)
    read = keras.tree.map_structure(lambda p: p.family, found)
    assert read == structure(FAMILIES)
    keras.tree.assert_same_structure(read, model(X))
    again = predict(model, X, family=family)
    kept = keras.tree.flatten(found)
    small = keras.tree.flatten(predict(model, X, family=family, keep_samples=False))
    for one, other, moments in zip(kept, keras.tree.flatten(again), small, strict=True):
        assert len(one.samples) == 8
        np.testing.assert_array_equal(one.samples, other.samples)
        for part in ("mean", "aleatoric_std", "epistemic_std"):
            np.testing.assert_allclose(
                getattr(moments, part), getattr(one, part), rtol=1e-4, atol=1e-6
            )
    assert [p.epistemic_std.max() > 1e-4 for p in kept].count(True) == 2


def test_the_outputs_of_a_pass_belong_together():
    """A second output that repeats the first one has the same draws."""
    x = keras.Input((3,))
    h = layers.Dense(1)(uq.MCDropout(0.5)(x))
    model = keras.Model(x, [h, layers.Rescaling(2.0)(h)])
    for options in ({}, {"batch_size": 3}):
        one, two = predict(model, X, **options)
        np.testing.assert_allclose(two.samples, 2.0 * one.samples, rtol=1e-5)
        assert one.epistemic_std.max() > 0


def test_random_numbers_of_another_library():
    rng = np.random.default_rng(0)

    class Noise(layers.Layer):
        def call(self, inputs):
            return [inputs + rng.normal(), inputs]

    x = keras.Input((1,))
    model = keras.Model(x, Noise()(x))
    noisy, still = uq.predict(model, X[:, :1], samples=3, verbose=0)
    assert (noisy.epistemic_std > 0).all()
    np.testing.assert_array_equal(still.samples[0], still.samples[2])


def test_a_row_without_an_input_is_unknown_in_every_output():
    x = X.copy()
    x[2, 0] = np.nan
    found = with_one_warning("NaN in 1 of 8", lambda: predict(functional(dict), x))
    for prediction in found.values():
        assert np.isnan(prediction.mean[2]).all()
        assert np.isfinite(np.delete(prediction.mean, 2, axis=0)).all()


def test_each_output_is_read_by_its_own_loss():
    x = keras.Input((3,))
    made = {name: layers.Dense(2, "softplus", name=name)(x) for name in ("b", "a")}
    nll, crossentropy = (
        uq.losses.NegativeLogLikelihood("laplace"),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    expected = {"b": Laplace(), "a": Categorical()}
    as_dict = keras.Model(x, made)
    as_dict.compile(loss={"a": crossentropy, "b": nll})
    assert family_names(predict(as_dict, X, samples=None)) == expected
    as_list = keras.Model(x, list(made.values()))
    for loss in ([nll, crossentropy], {"a": crossentropy, "b": nll}):
        as_list.compile(loss=loss)
        found = predict(as_list, X, samples=None)
        assert [p.family for p in found] == list(expected.values())
    as_list.compile(loss=[nll, None])
    found = predict(as_list, X, samples=None)
    assert [p.family for p in found] == [Laplace(), Point()]
    nested = keras.Model(x, {"both": list(made.values()), "c": layers.Dense(1)(x)})
    nested.compile(loss={"both": [nll, crossentropy], "c": "mse"})
    found = predict(nested, X, samples=None)
    assert [p.family for p in found["both"]] == list(expected.values())
    as_list.compile(loss=nll)
    found = predict(as_list, X, samples=None)
    assert [p.family for p in found] == [Laplace(), Laplace()]


def family_names(found):
    return {name: prediction.family for name, prediction in found.items()}


def test_a_family_for_each_output():
    model = functional(dict)
    median = uq.families.Quantiles([0.5])
    found = predict(model, X, family={"heat": median, "cloud": "categorical"})
    assert found["heat"].family == median
    assert found["cloud"].family == Categorical(from_logits=False)
    assert found["rain"].family == Gamma()
    for wrong in ({"snow": "gamma"}, ["gamma"] * 3):
        with pytest.raises(ValueError, match="in the structure of its output"):
            predict(model, X, family=wrong)
    with pytest.raises(ValueError, match=r"must be Gamma\(\), the family of the model"):
        predict(model, X, family={"rain": "normal"})


def test_an_output_that_no_family_fits():
    x = keras.Input((3,))
    flat = keras.ops.sum(layers.Dense(2)(x), axis=-1)
    with pytest.raises(ValueError, match=r"`family` must fit .*output of shape \(8,\)"):
        predict(keras.Model(x, [x, flat]), X)
