"""Names from other libraries, and what to write here in their place.

An unknown name in a public namespace or of a family is answered from this
table. `docs/migration.md` shows the same rows, and a test compares them. `N` is
the number of training examples, `D` the number of outputs.
"""

_NO_FAMILY = "no such family; one of your own is a subclass of `uq.families.Family`"
_NORMAL = '`"normal"`, `uq.families.Normal()`'
_MIXTURE = "`uq.families.NormalMixture(components=5)`"
_ZEROS = '`uq.families.{}("{}")`'
_QUANTILES = "`uq.families.Quantiles(levels=[0.1, 0.5, 0.9])`"
_LOCAL = "`uq.DenseVariational(units, kl_weight=1 / N)`"
_DENSE = '`uq.DenseVariational(units, kl_weight=1 / N, estimator="{}")`'
_CONV = '`uq.Conv{}DVariational(filters, size, kl_weight=1 / N, estimator="{}")`'
_WRAP = "`uq.Variational(keras.layers.{}, kl_weight=1 / N)`"
_HEAD = "`uq.DistributionHead({})`"

TABLE: dict[str, dict[str, str]] = {
    "tfp.layers": {
        "DenseReparameterization": _DENSE.format("reparameterization"),
        "DenseLocalReparameterization": _LOCAL,
        "DenseFlipout": _DENSE.format("flipout"),
        **{
            f"Convolution{rank}D{name}": _CONV.format(rank, name.lower())
            for rank in (1, 2, 3)
            for name in ("Reparameterization", "Flipout")
        },
        "IndependentNormal": _HEAD.format("D"),
        "IndependentBernoulli": _HEAD.format('D, "bernoulli"'),
        "IndependentPoisson": _HEAD.format('D, "poisson"'),
        "OneHotCategorical": '`uq.DistributionHead(classes, "categorical")`',
        "CategoricalMixtureOfOneHotCategorical": _NO_FAMILY,
        "MixtureNormal": "`uq.DistributionHead(D, uq.families.NormalMixture(K))`",
        "MixtureSameFamily": "`uq.DistributionHead(D, uq.families.NormalMixture(K))`",
        "MultivariateNormalTriL": _HEAD.format('D, "multivariate_normal"'),
        "IndependentLogistic": _HEAD.format('D, "logistic"'),
        "MixtureLogistic": _NO_FAMILY,
        "DistributionLambda": "a subclass of `uq.families.Family`, or "
        "`uq.to_tfp(params, family)` outside of the model",
        "KLDivergenceAddLoss": "`uq.NormalSampling()`: it draws the code and adds "
        "its KL",
        "KLDivergenceRegularizer": "`uq.NormalSampling()`: it draws the code and "
        "adds its KL",
        "VariableLayer": "`uq.ConstantVarianceHead(D)` has one scale for all x",
        "BlockwiseInitializer": "`uq.DenseVariational(units, kl_weight=1 / N, "
        "posterior=...)`: the posterior starts itself",
        "AutoregressiveTransform": "no equivalent: use a library of normalizing flows",
        "VariationalGaussianProcess": "no equivalent: use GPflow or GPJax",
    },
    "Families": {
        "Normal": _NORMAL,
        "Gaussian": _NORMAL,
        "MultivariateNormalDiag": _NORMAL,
        "Laplace": '`"laplace"`, `uq.families.Laplace()`',
        "Logistic": '`"logistic"`, `uq.families.Logistic()`',
        "StudentT": '`"student_t"`, `uq.families.StudentT()`',
        "T": '`"student_t"`, `uq.families.StudentT()`',
        "Cauchy": "`uq.families.StudentT(df=1)`",
        "LogNormal": '`"log_normal"`, `uq.families.LogNormal()`',
        "Gamma": '`"gamma"`, `uq.families.Gamma()`',
        "Weibull": '`"weibull"`, `uq.families.Weibull()`',
        "Beta": '`"beta"`, `uq.families.Beta()`',
        "Poisson": '`"poisson"`, `uq.families.Poisson()`',
        "NegativeBinomial": '`"negative_binomial"`, `uq.families.NegativeBinomial()`',
        "NegBin": '`"negative_binomial"`, `uq.families.NegativeBinomial()`',
        "ZeroInflated": _ZEROS.format("ZeroInflated", "poisson"),
        "ZeroInflatedPoisson": _ZEROS.format("ZeroInflated", "poisson"),
        "ZIP": _ZEROS.format("ZeroInflated", "poisson"),
        **dict.fromkeys(
            ("ZeroInflatedNegativeBinomial", "ZeroInflatedNegBin", "ZINB"),
            _ZEROS.format("ZeroInflated", "negative_binomial"),
        ),
        "Hurdle": _ZEROS.format("Hurdle", "poisson"),
        "HurdlePoisson": _ZEROS.format("Hurdle", "poisson"),
        "HurdleNegativeBinomial": _ZEROS.format("Hurdle", "negative_binomial"),
        "CensoredNormal": '`"censored_normal"`, `uq.families.CensoredNormal()`',
        "Tobit": '`"censored_normal"`, `uq.families.CensoredNormal()`',
        "TruncatedNormal": '`"truncated_normal"`, `uq.families.TruncatedNormal()`',
        "HalfNormal": "`uq.families.TruncatedNormal(lower=0)`",
        "MultivariateNormal": '`"multivariate_normal"`, '
        "`uq.families.MultivariateNormal()`",
        "MultivariateNormalFullCovariance": '`"multivariate_normal"`, '
        "`uq.families.MultivariateNormal()`",
        "MVN": '`"multivariate_normal"`, `uq.families.MultivariateNormal()`',
        "Bernoulli": '`"bernoulli"`, `uq.families.Bernoulli()`',
        "Binary": '`"bernoulli"`, `uq.families.Bernoulli()`',
        "Sigmoid": "`uq.families.Bernoulli(from_logits=False)`",
        "Categorical": '`"categorical"`, `uq.families.Categorical()`',
        "Multinomial": '`"categorical"`, `uq.families.Categorical()`',
        "Softmax": "`uq.families.Categorical(from_logits=False)`",
        "NormalMixture": _MIXTURE,
        "Mixture": _MIXTURE,
        "GMM": _MIXTURE,
        "Quantiles": _QUANTILES,
        "Quantile": _QUANTILES,
        "Interval": '`uq.families.Interval("normal")`',
        "Point": '`"point"`, `uq.families.Point()`',
        **dict.fromkeys(
            (
                "Binomial",
                "Dirichlet",
                "Exponential",
                "Geometric",
                "Gumbel",
                "InverseGaussian",
                "Pareto",
                "Uniform",
                "VonMises",
            ),
            _NO_FAMILY,
        ),
    },
    "Layers": {
        "Dropout": "`uq.MCDropout(rate)`",
        "MonteCarloDropout": "`uq.MCDropout(rate)`",
        "SpatialDropout1D": "`uq.SpatialMCDropout1D(rate)`",
        "SpatialDropout2D": "`uq.SpatialMCDropout2D(rate)`",
        "SpatialDropout3D": "`uq.SpatialMCDropout3D(rate)`",
        "Dense": _LOCAL,
        "BayesianDense": _LOCAL,
        "DenseBayesian": _LOCAL,
        "VariationalDense": _LOCAL,
        **{
            f"{start}Conv{rank}D{end}": _CONV.format(rank, estimator)
            for rank in (1, 2, 3)
            for start, end, estimator in (
                ("", "", "flipout"),
                ("Bayesian", "", "flipout"),
                ("", "Flipout", "flipout"),
                ("", "Reparameterization", "reparameterization"),
            )
        },
        **{
            name: _WRAP.format(f"{cell}(units)")
            for cell in ("LSTM", "GRU", "SimpleRNN")
            for name in (cell, f"{cell}Variational", f"Bayesian{cell}")
        },
        "EmbeddingVariational": _WRAP.format("Embedding(tokens, units)"),
        "BayesianLayer": "`uq.Variational(layer, kl_weight=1 / N)`",
        "Sampling": "`uq.NormalSampling()`",
        "MixtureDensity": "`uq.DistributionHead(D, uq.families.NormalMixture(K))`",
        "MDN": "`uq.DistributionHead(D, uq.families.NormalMixture(K))`",
        "DenseNormal": _HEAD.format("D"),
        "NormalHead": _HEAD.format("D"),
        "DeepEnsemble": "`uq.Ensemble(build_model, members=5)`",
        "RandomFeatureGaussianProcess": "`uq.RandomFourierFeatures(1024)`, then a "
        "layer with random weights",
        "SNGP": "`uq.RandomFourierFeatures(1024)`, then a layer with random weights",
        "GaussianNoise": "`keras.layers.GaussianNoise`",
        "GaussianDropout": "`keras.layers.GaussianDropout`",
        "SpectralNormalization": "`keras.layers.SpectralNormalization`",
    },
    "Losses, metrics and tools": {
        "NLL": "`uq.losses.NegativeLogLikelihood()`, "
        "`uq.metrics.NegativeLogLikelihood()`",
        "GaussianNLL": '`uq.losses.NegativeLogLikelihood("normal")`',
        "NegLogLik": "`uq.losses.NegativeLogLikelihood()`",
        "PinballLoss": "`uq.losses.Pinball(levels)`",
        "QuantileLoss": "`uq.losses.Pinball(levels)`",
        "ContinuousRankedProbabilityScore": "`uq.losses.CRPS()`, `uq.metrics.CRPS()`",
        "ECE": "`uq.metrics.ExpectedCalibrationError()`",
        "Brier": "`uq.metrics.BrierScore()`",
        "PICP": "`uq.metrics.IntervalCoverage(0.9)`",
        "Coverage": "`uq.metrics.IntervalCoverage(0.9)`",
        "MPIW": "`uq.metrics.MeanIntervalWidth(0.9)`",
        "Sharpness": "`uq.metrics.MeanIntervalWidth(0.9)`",
        "WinklerScore": "`uq.metrics.IntervalScore(0.9)`",
        "Entropy": "`uq.metrics.PredictiveEntropy()`",
        "RMSE": "`uq.metrics.RootMeanSquaredError()`",
        "MAE": "`uq.metrics.MeanAbsoluteError()`",
        "KLAnnealing": "`uq.callbacks.KLWarmup(epochs)`",
        "PlattScaling": "`uq.VectorScaling()`",
        "Conformal": "`uq.calibration.SplitConformal(level)`",
        "ConformalPrediction": "`uq.calibration.SplitConformal(level)`",
        "MapieRegressor": "`uq.calibration.SplitConformal(level)`",
        "SplitConformalRegressor": "`uq.calibration.SplitConformal(level)`",
        "ConformalizedQuantileRegressor": "`uq.calibration.ConformalQuantile(level)`",
        "SplitConformalClassifier": "`uq.calibration.AdaptivePredictionSets(level)`",
        "Deterministic": "`uq.to_deterministic(model)`",
        "SamplePredict": "`uq.predict(model, x, samples=100)`",
        "PredictProba": "`uq.predict(model, x).mean`",
        "Distributions": "`uq.families`",
        "Distribution": "`uq.families.Family`",
        "Util": "`uq.numerics`",
    },
}


def _key(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


_ANSWERS = {
    _key(name): answer for group in TABLE.values() for name, answer in group.items()
}


def suggest(name: str) -> str | None:
    """What to write here for a name of another library, or None.

    Case, spaces, underscores and hyphens do not matter: `"log-normal"` is
    `"LogNormal"`. Of a name in the plural, the singular is looked up too.
    """
    key = _key(name)
    return _ANSWERS.get(key) or _ANSWERS.get(key.removesuffix("s"))
