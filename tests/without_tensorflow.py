"""What users do with a model, where there is no TensorFlow.

Run by `test_backends.py` in a process of its own, on another backend.
"""

import sys
import tempfile

asked = []


class Without:
    """A finder of modules that does not find TensorFlow, and notes each request."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_probability"):
            asked.append(name)
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

import keras  # noqa: E402
import numpy as np  # noqa: E402

asked.clear()  # Keras may ask for it
import keras_uq_layers as uq  # noqa: E402

assert not asked, "the import of this package asks for TensorFlow"

x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
y = x[:, :1]
model = keras.Sequential(
    [
        uq.DenseVariational(4, kl_weight=1 / 32),
        uq.MCDropout(0.1),
        uq.DistributionHead(1),
    ]
)
model.compile(
    "adam",
    uq.losses.NegativeLogLikelihood(),
    metrics=[uq.metrics.CRPS(), uq.metrics.IntervalCoverage(0.9)],
)
model.fit(x, y, batch_size=8, verbose=0, validation_split=0.25)
with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/m.keras")
    again = keras.saving.load_model(f"{folder}/m.keras")
again.evaluate(x, y, verbose=0)
again.predict(x, verbose=0)
prediction = uq.predict(again, x, samples=5, seed=0, verbose=0)
assert (prediction.epistemic_std > 0).all()
ensemble = uq.Ensemble(
    lambda: keras.Sequential([uq.DistributionHead(1, "student_t")]), members=2
)
ensemble.compile("adam", loss=uq.losses.NegativeLogLikelihood("student_t"))
ensemble.fit(x, y, verbose=0)
uq.predict(ensemble, x, family="student_t", verbose=0).quantile(0.9)
uq.to_deterministic(again).predict(x, verbose=0)
try:
    uq.to_tfp([[0.0, 1.0]], "normal")
except ImportError as error:
    assert "`to_tfp` needs TensorFlow Probability" in str(error)  # noqa: PT017
    assert asked  # a request is noted
else:
    raise AssertionError("TensorFlow was not blocked")
assert not {"tensorflow", "tensorflow_probability"} & set(sys.modules)
