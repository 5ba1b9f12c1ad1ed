"""The rule by which every method is trained, chosen and tested.

1. The last sixth of the training images, 10,000, are the validation rows; networks
   are trained on the other 50,000.
2. Of a method with several recipes, each is trained with seed 0. The lowest negative
   log likelihood of the validation rows decides, for all seeds.
3. The network of that recipe and of each seed is tested once, on the test images, on
   the same images turned by six angles, and on unknown images.

A seed is one of the initial weights, of the order of the rows and of all draws.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import keras_uq_layers as uq
from fashion_mnist_benchmark.data import rotated
from fashion_mnist_benchmark.methods import METHODS
from fashion_mnist_benchmark.methods import TEMPERATURES
from fashion_mnist_benchmark.methods import Work
from fashion_mnist_benchmark.methods import predict
from fashion_mnist_benchmark.networks import BATCH
from fashion_mnist_benchmark.networks import RATE

ANGLES = 15, 30, 45, 60, 75, 90  # degrees
# Those of uncertainty-baselines, and those of most other tables.
BINS, OTHER_BINS = 10, 15
KNOWN_SHARE = 0.95  # of the known images, which the false positive rate accepts


class Trained(NamedTuple):
    """A network on disk."""

    path: Path
    validation_nll: float
    seconds: float  # of training, those of its sources included
    processor_seconds: float


class Networks:
    """The trained networks: each is trained once, and kept in a folder.

    Args:
        folder: Where the networks lie.
        data: A `Data`.
        epochs: Of a network that is trained from random weights.
    """

    def __init__(self, folder, data, epochs):
        self.folder, self.data, self.epochs = Path(folder), data, epochs

    def chosen(self, name):
        """The recipe of a method that the validation rows choose."""
        recipes = METHODS[name].recipes
        if len(recipes) == 1:
            return recipes[0]

        def nll(recipe):
            found = self.trained(recipe, seed=0).validation_nll
            # A NaN is no better than anything.
            return np.inf if np.isnan(found) else found

        return min(recipes, key=nll)

    def trained(self, recipe, seed):
        """Trains a network, unless it is there."""
        settings = self.recipe_settings(recipe)
        text = json.dumps({**settings, "seed": seed}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        stem = f"{recipe.make.__name__}-{seed}-{digest}"
        path, notes = (self.folder / f"{stem}{end}" for end in (".keras", ".json"))
        if not path.is_file():
            sources = []
            if recipe.source is not None:
                made_of = self.chosen(recipe.source)
                sources = [self.trained(made_of, s) for s in recipe.source_seeds(seed)]
            self._train(recipe, seed, sources, path, notes)
        return Trained(path, **json.loads(notes.read_text()))

    def _train(self, recipe, seed, sources, path, notes):
        made = f"{recipe.make.__name__} {recipe.label}".strip()
        print(f"{made}, seed {seed}: training", flush=True)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        models = [load(source) for source in sources]
        begun = time.perf_counter(), time.process_time()
        model = recipe.make(
            Work(self.data, seed, self.epochs, models), **recipe.options
        )
        ended = time.perf_counter(), time.process_time()
        x, y = self.data.validation
        nll = -predict(model, x, recipe.passes).log_prob(y).mean()
        found = {
            "validation_nll": float(nll),
            "seconds": ended[0] - begun[0] + sum(s.seconds for s in sources),
            "processor_seconds": ended[1]
            - begun[1]
            + sum(s.processor_seconds for s in sources),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(found))
        # Last and in one move: what is there is whole, and has its notes.
        draft = path.with_name(f"draft-{path.name}")
        model.save(draft)
        os.replace(draft, path)

    def recipe_settings(self, recipe):
        """All that the network of a recipe and a seed depends on."""
        found = {
            "make": recipe.make.__name__,
            "options": recipe.options,
            "passes": recipe.passes,
            "members": recipe.members,
            "epochs": self.epochs,
            "batch": BATCH,
            "learning_rate": RATE,
            "temperatures": TEMPERATURES,
            "data": self.data.description,
        }
        if recipe.source is not None:
            recipes = METHODS[recipe.source].recipes
            found["source"] = [self.recipe_settings(one) for one in recipes]
        return found

    def settings(self, name):
        """All that the figures of a method depend on, for the file of results."""
        recipes = METHODS[name].recipes
        return {
            "recipes": [self.recipe_settings(recipe) for recipe in recipes],
            "angles": list(ANGLES),
            "bins": [BINS, OTHER_BINS],
        }

    def test(self, name, seed):
        """Step 3 of the rule: the figures of one method and seed."""
        recipe = self.chosen(name)
        found = self.trained(recipe, seed)
        print(f"{name}, seed {seed}: test", flush=True)
        model = load(found)
        return {
            "recipe": recipe.options,
            "validation_nll": found.validation_nll,
            **figures(model, self.data, recipe.passes, METHODS[name].score),
            "seconds": round(found.seconds, 1),
            "processor_seconds": round(found.processor_seconds, 1),
        }


def load(trained):
    return keras.saving.load_model(trained.path)


def figures(model, data, passes, score=None):
    """The test figures of a network."""
    x, y = data.test
    known = predict(model, x, passes)
    unknown = predict(model, data.unknown, passes)
    if score is None:
        scores = known.entropy, unknown.entropy
    else:
        scores = map(score(model, data), (x, data.unknown))
    auroc, false_positives = separation(*scores)
    found = {
        **quality(known, y),
        "auroc": auroc,
        "false_positives": false_positives,
        "passes": known.passes,
        "rotated": {
            angle: quality(predict(model, rotated(x, angle), passes), y)
            for angle in ANGLES
        },
    }
    if known.passes > 1:
        information = known.mutual_information, unknown.mutual_information
        found["auroc_of_information"] = separation(*information)[0]
    return found


def quality(prediction, y):
    """Figures of a prediction of known images."""
    probabilities = uq.families.Categorical(from_logits=False)

    def value(metric, **options):
        metric = metric(probabilities, **options)
        metric.update_state(y, prediction.mean)
        return float(metric.result())

    return {
        "nll": float(-prediction.log_prob(y).mean()),
        "accuracy": value(uq.metrics.Accuracy),
        "ece": value(uq.metrics.ExpectedCalibrationError, bins=BINS),
        "ece_of_15": value(uq.metrics.ExpectedCalibrationError, bins=OTHER_BINS),
        "brier": value(uq.metrics.BrierScore),
        "aurc": value(uq.metrics.AURC),
    }


def separation(known, unknown):
    """How well a score tells unknown images from known ones.

    Returns:
        The area under the ROC curve; the share of the unknown images that are
        accepted where 95 % of the known ones are.
    """
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    auroc = roc_auc_score(truth, np.concatenate([known, unknown]))
    border = np.quantile(known, KNOWN_SHARE)
    return float(auroc), float(np.mean(unknown <= border))
