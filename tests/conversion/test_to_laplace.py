"""`to_laplace`: the exact posterior of a linear model, and the formula written out."""

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import layers
from random_weights import covariance

import keras_uq_layers as uq
from keras_uq_layers.reading import family_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
STRUCTURES = ["full", "kronecker", "diagonal"]
LIKELIHOODS = {
    "softmax": ("softmax", "sparse_categorical_crossentropy", RNG.integers(0, 3, 40)),
    "logits": (
        None,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        RNG.integers(0, 3, (40, 1)),
    ),
    "one_hot": ("softmax", "categorical_crossentropy", RNG.dirichlet(np.ones(3), 40)),
    "sigmoid": ("sigmoid", "binary_crossentropy", RNG.integers(0, 2, (40, 3))),
    "squared_error": (None, "mse", RNG.normal(size=(40, 3))),
}
PRECISION, NOISE = 0.7, 0.4


def network(kind, use_bias=True):
    """A small model with generic weights, as a stand-in for training."""
    activation, loss, y = LIKELIHOODS[kind]
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, "tanh"),
            layers.Dense(3, activation, use_bias=use_bias, name="last"),
        ]
    )
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    model.compile("adam", loss)
    return model, y


def laplace(model, y, structure="full", x=X, **kwargs):
    if model.loss == "mse":
        kwargs.setdefault("noise_scale", NOISE)
    kwargs = {"prior_precision": PRECISION, "verbose": 0, **kwargs}
    return uq.to_laplace(model, x, y, structure=structure, **kwargs)


def pieces(kind, model, y):
    """For each row: inputs of the last layer with a 1, Hessian, log likelihood."""
    hidden, last = model.layers
    kernel, bias = (to_numpy(w).astype("float64") for w in hidden.weights)
    h = np.tanh(X @ kernel + bias)
    h = np.concatenate([h, np.ones((40, 1))], axis=1)
    weights = np.concatenate([to_numpy(w).reshape(-1, 3) for w in last.weights])
    for row, target in zip(h, y, strict=True):
        f = row[: len(weights)] @ weights.astype("float64")
        if kind == "squared_error":
            log_p = -0.5 * ((target - f) / NOISE) ** 2
            log_p -= np.log(NOISE * np.sqrt(2 * np.pi))
            yield row, np.eye(3) / NOISE**2, log_p.sum()
        elif kind == "sigmoid":
            p = 1 / (1 + np.exp(-f))
            log_p = np.where(target == 1, np.log(p), np.log(1 - p))
            yield row, np.diag(p * (1 - p)), log_p.sum()
        else:
            p = np.exp(f) / np.exp(f).sum()
            one_hot = (
                target if kind == "one_hot" else np.eye(3)[int(np.squeeze(target))]
            )
            yield row, np.diag(p) - np.outer(p, p), one_hot @ np.log(p)


def written_out(kind, model, y, structure):
    """Gauss-Newton matrix and log likelihood, a row of the data at a time."""
    rows = list(pieces(kind, model, y))
    total = sum(log_p for _, _, log_p in rows)
    hessians = [(h[: len(h) - (not model.layers[-1].use_bias)], c) for h, c, _ in rows]
    if structure != "kronecker":
        matrix = sum(np.kron(np.outer(h, h), c) for h, c in hessians)
        return np.diag(np.diag(matrix)) if structure == "diagonal" else matrix, total
    of_inputs = np.mean([np.outer(h[:4], h[:4]) for h, _ in hessians], axis=0)
    of_units = sum(c for _, c in hessians)
    matrix = np.zeros((15, 15))
    matrix[:12, :12] = np.kron(of_inputs, of_units)
    matrix[12:, 12:] = of_units
    size = 15 if model.layers[-1].use_bias else 12
    return matrix[:size, :size], total


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_posterior_and_evidence_are_the_formula_written_out(kind, structure):
    for use_bias in (True, False):
        model, y = network(kind, use_bias)
        before = to_numpy(model(X))
        converted = laplace(model, y, structure, batch_size=16)
        last = converted.layers[-1]
        matrix, log_likelihood = written_out(kind, model, y, structure)
        precision = matrix + PRECISION * np.eye(len(matrix))
        np.testing.assert_allclose(
            covariance(last), np.linalg.inv(precision), rtol=2e-4, atol=1e-6
        )
        squares = sum(
            np.sum(to_numpy(w).astype("float64") ** 2) for w in model.layers[-1].weights
        )
        evidence = log_likelihood - 0.5 * (
            np.linalg.slogdet(precision / PRECISION)[1] + PRECISION * squares
        )
        assert last.log_marginal_likelihood == pytest.approx(evidence, rel=1e-5)
        # The means are the trained weights, the activation and the rest stay.
        plain = uq.to_deterministic(converted)
        np.testing.assert_allclose(to_numpy(plain(X)), before, rtol=1e-5, atol=1e-6)
        assert last.prior.scale == pytest.approx(PRECISION**-0.5)
        assert float(last.kl_weight) == pytest.approx(1 / 40)


def test_a_linear_model_has_its_exact_posterior():
    """The normal equations of Bayesian linear regression, and their evidence."""
    design = np.concatenate([X, np.ones((40, 1))], axis=1).astype("float64")
    y = design @ RNG.normal(size=(4, 1)) + NOISE * RNG.normal(size=(40, 1))
    exact = np.linalg.inv(design.T @ design / NOISE**2 + PRECISION * np.eye(4))
    mode = exact @ design.T @ y / NOISE**2
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.set_weights([mode[:3], mode[3]])
    model.compile("adam", "mse")
    converted = laplace(model, y)
    last = converted.layers[-1]
    np.testing.assert_allclose(covariance(last), exact, rtol=1e-5, atol=1e-7)
    spread = uq.predict(converted, X, samples=2000, seed=1, verbose=0).epistemic_std
    expected = np.sqrt(np.sum(design @ exact * design, axis=1))
    # Relative standard error of a standard deviation: 1 / sqrt(2 * 2000).
    np.testing.assert_allclose(spread[:, 0], expected, rtol=5 / np.sqrt(2 * 2000))
    marginal = NOISE**2 * np.eye(40) + design @ design.T / PRECISION
    log_det = np.linalg.slogdet(2 * np.pi * marginal)[1]
    evidence = -0.5 * (log_det + y[:, 0] @ np.linalg.solve(marginal, y[:, 0]))
    assert last.log_marginal_likelihood == pytest.approx(evidence, rel=1e-6)


def test_the_noise_scale_is_that_of_the_residuals():
    model, y = network("squared_error")
    residual = np.sqrt(np.mean((to_numpy(model(X)) - y) ** 2))
    given = laplace(model, y, noise_scale=float(residual)).layers[-1]
    estimated = laplace(model, y, noise_scale=None).layers[-1]
    np.testing.assert_allclose(covariance(estimated), covariance(given), rtol=1e-4)


HEADS = {
    "categorical": RNG.integers(0, 3, 40),
    "bernoulli": RNG.integers(0, 2, (40, 3)),
    "poisson": RNG.integers(0, 5, (40, 3)),
}


@pytest.mark.parametrize("family", HEADS)
def test_a_head_becomes_random_with_the_posterior_of_its_family(family, tmp_path):
    y = HEADS[family]
    head = uq.DistributionHead(3, family, name="head")
    model = keras.Sequential([keras.Input((3,)), head])
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    converted = laplace(model, y)
    last = converted.layers[-1]
    assert isinstance(last, uq.Variational)
    # The curvature in the features of the head, from its params and the Fisher
    # information of its family.
    params = to_numpy(model(X)).astype("float64")
    design = np.concatenate([X, np.ones((40, 1))], axis=1).astype("float64")
    if family == "categorical":
        p = np.exp(params) / np.exp(params).sum(axis=1, keepdims=True)
        middle = [np.diag(row) - np.outer(row, row) for row in p]
    elif family == "bernoulli":
        p = 1 / (1 + np.exp(-params))
        middle = [np.diag(row * (1 - row)) for row in p]
    else:
        slope = 1 - np.exp(-(params - uq.numerics.POSITIVE_FLOOR))
        middle = [np.diag(row) for row in slope**2 / params]
    matrix = PRECISION * np.eye(12) + sum(
        np.kron(np.outer(h, h), c) for h, c in zip(design, middle, strict=True)
    )
    np.testing.assert_allclose(
        covariance(last), np.linalg.inv(matrix), rtol=2e-4, atol=1e-6
    )
    log_likelihood = np.sum(to_numpy(head.family.log_prob(y, model(X))))
    squares = sum(np.sum(w**2) for w in head.get_weights())
    evidence = log_likelihood - 0.5 * (
        np.linalg.slogdet(matrix / PRECISION)[1] + PRECISION * squares
    )
    assert last.log_marginal_likelihood == pytest.approx(evidence, rel=1e-5)
    prediction = uq.predict(converted, X, samples=20, seed=0, verbose=0)
    assert prediction.family.name == family
    assert (prediction.epistemic_std > 0).all()
    plain = uq.to_deterministic(converted)
    np.testing.assert_allclose(to_numpy(plain(X)), params, rtol=1e-5, atol=1e-6)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True).layers[
        -1
    ]
    np.testing.assert_allclose(covariance(loaded), covariance(last), rtol=1e-6)
    assert loaded.log_marginal_likelihood == last.log_marginal_likelihood


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_marginal_likelihood_is_largest_at_its_precision(structure):
    model, y = network("softmax")
    best = laplace(model, y, structure, prior_precision=None).layers[-1]
    precision = best.prior.scale**-2
    for factor in (0.8, 1.25):
        other = laplace(model, y, structure, prior_precision=factor * precision)
        worse = other.layers[-1].log_marginal_likelihood
        assert worse < best.log_marginal_likelihood - 1e-3


def features_of(model, x):
    """Inputs of the last layer with a 1, float64."""
    h = to_numpy(model.layers[0](x)).astype("float64")
    return np.concatenate([h, np.ones((len(h), 1))], axis=1)


@pytest.mark.parametrize(("kind", "bound"), [("softmax", 0.5), ("sigmoid", 0.25)])
def test_classes_get_the_bound_at_the_warmest_temperature(kind, bound):
    model, _ = network(kind)
    # Targets that the model predicts well: doubt about its weights costs.
    model.layers[-1].set_weights([5.0 * w for w in model.layers[-1].get_weights()])
    outputs = to_numpy(model(X)).astype("float64")
    y = outputs.argmax(axis=1) if kind == "softmax" else np.round(outputs)
    converted = laplace(model, y, structure=None, prior_precision=None)
    last = converted.layers[-1]
    h = features_of(model, X)
    matrix = bound * h.T @ h
    floor = np.finfo("float32").eps * np.linalg.eigvalsh(matrix).max()
    temperature = 40.0 * float(last.kl_weight)
    assert last.prior.scale == pytest.approx((floor / temperature) ** -0.5, rel=1e-4)
    assert last.log_marginal_likelihood is None
    expected = temperature * np.kron(
        np.linalg.inv(matrix + floor * np.eye(5)), np.eye(3)
    )
    np.testing.assert_allclose(
        covariance(last), expected, rtol=1e-3, atol=1e-4 * expected.max()
    )

    # Each row left out of the matrix: the loss is 0.005 nats above the plain one.
    weights = [to_numpy(w).reshape(-1, 3) for w in model.layers[-1].weights]
    logits = h @ np.concatenate(weights).astype("float64")

    def log_p(f):
        if kind == "softmax":
            chosen = f - np.logaddexp.reduce(f, axis=-1)[..., None]
            return np.take_along_axis(chosen, y[None, :, None], axis=2).sum(axis=-1)
        return np.sum(y * f - np.logaddexp(0.0, f), axis=-1)

    noise = np.random.default_rng(1).normal(size=(4000, 40, 3))

    def loss(temperature):
        variances = [
            row
            @ np.linalg.solve(
                matrix + floor * np.eye(5) - bound * np.outer(row, row), row
            )
            for row in h
        ]
        scales = np.sqrt(temperature * np.array(variances))[:, None]
        total = np.logaddexp.reduce(log_p(logits + scales * noise), axis=0)
        return np.log(4000) - np.mean(total)

    plain = loss(0.0)
    # The draws of the search leave an error of their own.
    assert loss(0.5 * temperature) < plain + 0.005 < loss(2.0 * temperature)


def test_probabilities_stay_and_doubt_grows_away_from_the_rows():
    """Two classes at +-1 on a line, in features that a network is sure of: the
    Gauss-Newton matrix with the likeliest prior doubts them, the bound does not."""
    rng = np.random.default_rng(5)
    y = np.arange(200) % 2
    x = rng.normal(size=(200, 8)) * 0.3
    x[:, 0] += 2.0 * y - 1.0
    x[:, 7] = 0.0  # never seen to move
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, "softmax")])
    kernel = np.zeros((8, 2))
    kernel[0] = -8.0, 8.0
    model.set_weights([kernel, np.zeros(2)])
    converted = uq.to_laplace(model, x, y, verbose=0)
    far = np.zeros((1, 8))
    far[0, [0, 7]] = 3.0, 10.0
    prediction = uq.predict(
        converted, np.concatenate([x, far]), samples=200, seed=0, verbose=0
    )
    plain = to_numpy(model(x))[np.arange(200), y]
    found = prediction.mean[np.arange(200), y]
    assert np.mean(-np.log(found)) < np.mean(-np.log(plain)) + 0.01
    assert prediction.mutual_information[-1] > prediction.mutual_information[:-1].max()
    gauss_newton = uq.to_laplace(model, x, y, structure="full", verbose=0)
    p = uq.predict(gauss_newton, x, samples=200, seed=0, verbose=0).mean
    assert np.mean(-np.log(p[np.arange(200), y])) > np.mean(-np.log(plain)) + 0.03


def test_a_normal_head_has_a_curvature_in_both_blocks():
    """Against the Fisher information of params, by differences in each weight."""
    y = 3.0 + 2.0 * RNG.normal(size=(40, 2))
    for name in uq.families.Normal.parameterizations:
        head = uq.DistributionHead(2, parameterization=name)
        head.adapt(y)
        model = keras.Sequential([keras.Input((3,)), head])
        flat = 0.3 * RNG.normal(size=16)

        def params(weights, head=head):
            weights = weights.reshape(4, 4)
            head.dense.set_weights([weights[:3], weights[3]])
            return to_numpy(head(X)).astype("float64")

        slopes = [
            (
                8 * (params(flat + d) - params(flat - d))
                - params(flat + 2 * d)
                + params(flat - 2 * d)
            )
            / 0.12
            for d in 0.01 * np.eye(16)
        ]
        scale = params(flat)[:, 2:]
        information = np.concatenate([1.0 / scale**2, 2.0 / scale**2], axis=1)
        matrix = np.einsum("inp,np,jnp->ij", slopes, information, slopes)
        matrix += PRECISION * np.eye(16)
        found = laplace(model, y).layers[-1]
        expected = np.linalg.inv(matrix)
        np.testing.assert_allclose(
            covariance(found), expected, rtol=2e-3, atol=1e-3 * expected.max()
        )
        assert np.isfinite(found.log_marginal_likelihood)
    diagonal = covariance(laplace(model, y, "diagonal").layers[-1])
    np.testing.assert_allclose(diagonal, np.diag(1 / np.diag(matrix)), rtol=2e-3)
    of_units = matrix[12:, 12:] - PRECISION * np.eye(4)
    kronecker = np.kron(np.pad(X.T @ X / 40, [(0, 1), (0, 1)]), of_units)
    kronecker[12:, 12:] = of_units
    expected = np.linalg.inv(kronecker + PRECISION * np.eye(16))
    found = covariance(laplace(model, y, "kronecker").layers[-1])
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3 * expected.max())
    found = laplace(model, y, None, prior_precision=None)
    prediction = uq.predict(found, X, samples=20, seed=0, verbose=0)
    assert prediction.family.name == "normal"
    assert (prediction.epistemic_std > 0).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_an_activation_may_be_a_layer_of_its_own(activation):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kind = {"linear": "logits"}.get(activation, activation)
    model, y = network(kind)
    expected = covariance(laplace(model, y).layers[-1])
    behind = [layers.Activation(activation)]
    if activation == "softmax":
        behind.append(layers.Softmax())
    for layer in behind:
        hidden, last = model.layers
        plain = layers.Dense(3, name="last")
        split = keras.Sequential([keras.Input((3,)), hidden, plain, layer])
        plain.set_weights(last.get_weights())
        split.compile("adam", loss if activation == "linear" else None)
        found = laplace(split, y)
        assert [type(part) for part in found.layers[1:]] == [
            uq.DenseVariational,
            type(layer),
        ]
        np.testing.assert_allclose(covariance(found.layers[1]), expected, rtol=1e-5)
        family = "bernoulli" if activation == "sigmoid" else "categorical"
        assert family_of(found).name == family


class Batches(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(10 * index, 10 * index + 10)
        return X[rows], self.y[rows]


def test_data_in_batches_files_and_functional_models(tmp_path):
    model, y = network("softmax")
    expected = laplace(model, y)
    inputs = keras.Input((3,), name="inputs")
    functional = keras.Model({"inputs": inputs}, model(inputs))
    functional.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"must end in a `keras\.layers\.Dense`"):
        laplace(functional, y, x={"inputs": X})
    hidden, last = model.layers
    functional = keras.Model({"inputs": inputs}, last(hidden(inputs)))
    functional.compile("adam", "sparse_categorical_crossentropy")
    same = [
        laplace(model, None, x=Batches(y)),
        laplace(functional, y, x={"inputs": X}, batch_size=7),
    ]
    expected.save(tmp_path / "model.keras")
    same.append(keras.saving.load_model(tmp_path / "model.keras", safe_mode=True))
    for other in same:
        found, wanted = other.layers[-1], expected.layers[-1]
        np.testing.assert_allclose(
            covariance(found), covariance(wanted), rtol=1e-4, atol=1e-6
        )
        assert found.log_marginal_likelihood == pytest.approx(
            wanted.log_marginal_likelihood, rel=1e-6
        )


def test_positions_of_a_sequence_count_as_rows():
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    flat = keras.Sequential([keras.Input((3,)), layers.Dense(2, "softmax")])
    flat.compile("adam", "sparse_categorical_crossentropy")
    flat.set_weights(model.get_weights())
    y = RNG.integers(0, 2, (8, 5))
    expected = laplace(flat, y.ravel()).layers[-1]
    for targets in (y, y[..., None]):
        found = laplace(model, targets, x=X.reshape(8, 5, 3)).layers[-1]
        np.testing.assert_allclose(
            covariance(found), covariance(expected), rtol=1e-4, atol=1e-7
        )


def test_predict_finds_an_epistemic_part_and_the_model_trains_on():
    model, y = network("softmax")
    converted = laplace(model, y, None, prior_precision=None)
    prediction = uq.predict(converted, X, samples=30, seed=0, verbose=0)
    assert (prediction.mutual_information > 1e-4).all()
    for structure in [None, *STRUCTURES]:
        if structure is not None:
            converted = laplace(model, y, structure)
        converted.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
        before = converted.layers[-1].get_weights()
        assert np.isfinite(converted.train_on_batch(X, y))
        after = converted.layers[-1].get_weights()
        assert all(np.isfinite(w).all() for w in after)
        assert not np.array_equal(after[0], before[0])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model, y = network("softmax")
    for structure in STRUCTURES:
        last = laplace(model, y, structure).layers[-1]
        assert last.dtype_policy.name == policy
        # Half precision enters by the features of the rows alone.
        matrix, _ = written_out("softmax", model, y, structure)
        expected = np.linalg.inv(matrix + PRECISION * np.eye(15))
        np.testing.assert_allclose(
            covariance(last), expected, atol=0.02 * expected.max()
        )
    # The rows tell nothing about one feature: draws of its weights are large, and
    # a half-precision product still has the digits of the others.
    x = np.concatenate([X, 0.0 * X[:, :1]], axis=1)
    labels = (X[:, 0] > 0).astype(int)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, "softmax")])
    kernel = np.zeros((4, 2))
    kernel[0] = -9.0, 9.0
    model.set_weights([kernel, np.zeros(2)])
    converted = uq.to_laplace(model, x, labels, verbose=0)
    p = uq.predict(converted, x, samples=100, seed=0, verbose=0).mean
    loss, plain = (
        -np.mean(np.log(to_numpy(found)[np.arange(40), labels].astype("float64")))
        for found in (p, model(x))
    )
    assert loss < plain + 0.03


def test_errors():
    def member():
        return network("softmax")[0]

    model, y = network("softmax")
    uncompiled = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    relu = keras.Sequential([keras.Input((3,)), layers.Dense(2, "relu")])
    relu.compile("adam", "mse")
    dropping = keras.Sequential(
        [keras.Input((3,)), uq.MCDropout(0.1), layers.Dense(3, "softmax")]
    )
    normal, gamma = (
        keras.Sequential([keras.Input((3,)), uq.DistributionHead(1, family)])
        for family in ("normal", "gamma")
    )
    twice = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, "tanh"), layers.Softmax()]
    )
    pooled = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.ReLU()])
    for broken, kwargs, message in [
        (model, {"structure": "low_rank"}, "`structure` must be one of 'full', "),
        (model, {"prior_precision": 0.0}, "`prior_precision` must be a positive"),
        (model, {"prior_precision": "auto"}, "`prior_precision` must be a positive"),
        (
            model,
            {"structure": "bound", "prior_precision": 1.0},
            "`prior_precision` must be None with the structure 'bound'",
        ),
        (
            normal,
            {"structure": "bound"},
            "`structure` must be 'full', 'kronecker' or 'diagonal' for a likelihood",
        ),
        (model, {"noise_scale": 1.0}, "`noise_scale` must be None for a likelihood"),
        (model, {"y": None}, "inputs and targets.*Received: no targets"),
        (model, {"y": y + 5}, "`y` must be labels from 0 to 2"),
        (model, {"y": y[:, None] + [0, 0]}, "`y` must agree with the output"),
        (model, {"x": X * np.nan}, "finite features in front of the last layer"),
        (pooled, {}, r"must end in a `keras\.layers\.Dense`.*ReLU"),
        (relu, {}, "must end in a head of the family.*activation relu"),
        (uncompiled, {}, "must end in a head of the family.*activation linear"),
        (gamma, {}, "must end in a head of the family.*family Gamma"),
        (twice, {}, r"must end in a `keras\.layers\.Dense`.*Dense"),
        (dropping, {}, "must not be random in front of its last layer.*MCDropout"),
        (keras.Sequential([layers.Dense(1)]), {}, "model that is built, with one outp"),
        (uq.Ensemble(member, 2), {}, "Of an ensemble, take a member.*Ensemble"),
        ("model", {}, "`model` must be a Keras model"),
    ]:
        arguments = {"x": X, "y": y, "verbose": 0, **kwargs}
        with pytest.raises(ValueError, match=message):
            uq.to_laplace(broken, **arguments)
