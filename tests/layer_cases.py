"""One entry per public layer: how to make it, and what to expect of it.

A layer without an entry fails `layers/test_harness.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
import numpy as np

import keras_uq_layers as uq
from keras_uq_layers.testing import generic_input


def public_layers():
    return {
        name
        for name in uq.__all__
        if isinstance(getattr(uq, name), type)
        and issubclass(getattr(uq, name), keras.layers.Layer)
        and not issubclass(getattr(uq, name), keras.Model)
    }


def params_input(shape):
    """Params of a normal: `[loc | scale]` with positive scales."""
    x = generic_input(shape)
    half = shape[-1] // 2
    x[..., half:] = np.exp(0.3 * x[..., half:])
    return x


@dataclass
class Case:
    layer: str
    config: dict[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, ...] = (5, 3)
    expect: dict[str, Any] = field(default_factory=dict)
    wrapped: Callable | None = None  # makes the layer that a wrapper wraps

    def make(self, **kwargs):
        if self.wrapped:
            inner = self.wrapped(kwargs.get("dtype"))
            return getattr(uq, self.layer)(inner, **self.config, **kwargs)
        return getattr(uq, self.layer)(**self.config, **kwargs)

    @property
    def id(self):
        options = "-".join(str(v) for v in self.config.values() if isinstance(v, str))
        if isinstance(self.config.get("family"), uq.families.Family):
            options = self.config["family"].name
        return f"{self.layer}-{options}" if options else self.layer


FAMILIES = [
    uq.families.StudentT(),
    uq.families.LogNormal(),
    uq.families.Gamma(),
    uq.families.Beta(),
    uq.families.Poisson(),
    uq.families.NegativeBinomial(),
    uq.families.CensoredNormal(),
    uq.families.TruncatedNormal(),
    uq.families.NormalMixture(3),
    uq.families.MultivariateNormal(),
    uq.families.Quantiles([0.1, 0.5, 0.9]),
]

HEAD = {"half_precision_output": False, "non_trainable": 2}
# kl_weight is the weight that is not trained
DENSE_VARIATIONAL = {"non_trainable": 1, "losses": 1, "seeds": 1}

CASES = [
    Case("BumpLayer", {"profile": "smooth"}, expect={"trainable": 1}),
    Case(
        "BumpLayer",
        {"profile": "threshold", "per_feature": True},
        (4, 2, 3),
        expect={"trainable": 1},
    ),
    Case(
        "NormalLikelihood",
        {"output": "log_prob"},
        expect={"trainable": 2, "half_precision_output": False},
    ),
    Case(
        "NormalLikelihood",
        {"output": "prob", "per_feature": True, "add_nll": True},
        (4, 2, 3),
        expect={"trainable": 2, "half_precision_output": False, "losses": 1},
    ),
    Case("ConstantVarianceHead", {"units": 2}, expect={"trainable": 2, **HEAD}),
    Case(
        "ConstantVarianceHead",
        {"units": 2, "scale": [0.5, 2.0], "trainable_scale": True},
        (4, 2, 3),
        expect={"trainable": 3, **HEAD},
    ),
    Case(
        "DistributionHead",
        {"units": 2, "family": "normal"},
        expect={"trainable": 2, **HEAD},
    ),
    Case(
        "DistributionHead",
        {"units": 1, "family": "laplace"},
        (2, 3, 4, 5),
        expect={"trainable": 2, **HEAD},
    ),
    *[
        Case(
            "DistributionHead",
            {"units": 2, "family": family},
            expect={
                "trainable": 2,
                "half_precision_output": False,
                "non_trainable": {"affine": 2, "scale": 1, None: 0}[family.target_unit],
            },
        )
        for family in FAMILIES
    ],
    Case(
        "TemperatureScaling",
        {"temperature": 2.0},
        expect={"trainable": 0, "non_trainable": 1, "half_precision_output": False},
    ),
    Case(
        "NormalSampling",
        {},
        (5, 4),
        expect={
            "make_input": params_input,
            "half_precision_output": False,
            "trainable": 0,
            "non_trainable": 1,
            "seeds": 1,
            "losses": 1,
        },
    ),
    *[
        Case(
            "DenseVariational",
            {"units": 4, "kl_weight": 0.01, "posterior": posterior, **options},
            expect={"trainable": trainable, **DENSE_VARIATIONAL},
        )
        for posterior, trainable, options in [
            ("mean_field", 3, {"estimator": "local_reparameterization"}),
            ("mean_field", 3, {"estimator": "flipout"}),
            ("mean_field", 3, {"deterministic_bias": True, "activation": "tanh"}),
            ("low_rank", 4, {}),
            ("full_covariance", 4, {}),
        ]
    ],
    Case(
        "DenseVariational",
        {"units": 4, "kl_weight": 0.01, "prior": "scale_mixture"},
        (4, 2, 3),
        expect={"trainable": 3, **DENSE_VARIATIONAL, "seeds": 2},
    ),
    *[
        Case(
            layer,
            {"filters": 4, "kernel_size": 3, "kl_weight": 0.01, **options},
            shape,
            expect={"trainable": trainable, **DENSE_VARIATIONAL},
        )
        for layer, shape, trainable, options in [
            ("Conv1DVariational", (3, 6, 2), 3, {"padding": "causal"}),
            (
                "Conv1DVariational",
                (3, 6, 2),
                4,
                {"posterior": "low_rank", "dilation_rate": 2},
            ),
            ("Conv2DVariational", (3, 6, 5, 2), 3, {"estimator": "flipout"}),
            (
                "Conv2DVariational",
                (3, 6, 5, 2),
                3,
                {
                    "estimator": "local_reparameterization",
                    "strides": (2, 1),
                    "padding": "same",
                    "deterministic_bias": True,
                },
            ),
            (
                "Conv3DVariational",
                (2, 4, 5, 3, 2),
                2,
                {"activation": "relu", "padding": "same", "use_bias": False},
            ),
        ]
    ],
    Case(
        "Variational",
        {"kl_weight": 0.01},
        wrapped=lambda dtype: keras.layers.Dense(4, dtype=dtype),
        expect={"trainable": 3, **DENSE_VARIATIONAL},
    ),
    Case(
        "Variational",
        {"kl_weight": 0.01, "weights": "kernel", "posterior": "low_rank"},
        (3, 4, 2),
        wrapped=lambda dtype: keras.layers.Dense(4, "tanh", dtype=dtype),
        expect={"trainable": 4, **DENSE_VARIATIONAL},
    ),
    Case(
        "Variational",
        {"kl_weight": 0.01, "prior": "scale_mixture"},
        (3, 6, 5, 2),
        wrapped=lambda dtype: keras.layers.LayerNormalization(dtype=dtype),
        expect={"trainable": 3, **DENSE_VARIATIONAL, "seeds": 2},
    ),
    *[
        Case(layer, config, shape, expect={"trainable": 0, "seeds": 1})
        for layer, config, shape in [
            ("MCDropout", {"rate": 0.3}, (5, 3)),
            ("MCDropout", {"rate": 0.3, "noise_shape": (None, 1, None)}, (4, 2, 3)),
            ("SpatialMCDropout1D", {"rate": 0.3}, (4, 2, 3)),
            ("SpatialMCDropout2D", {"rate": 0.3}, (4, 2, 2, 3)),
            ("SpatialMCDropout3D", {"rate": 0.3}, (4, 2, 2, 2, 3)),
        ]
    ],
    Case(
        "ConcreteDropout",
        {"kl_weight": 0.01},
        wrapped=lambda dtype: keras.layers.Dense(4, dtype=dtype),
        expect={"trainable": 3, "non_trainable": 1, "seeds": 1, "losses": 1},
    ),
    Case(
        "ConcreteDropout",
        {"kl_weight": 0.01},
        (4, 2, 3),
        wrapped=lambda dtype: keras.layers.Dense(4, "tanh", dtype=dtype),
        expect={"trainable": 3, "non_trainable": 1, "seeds": 1, "losses": 1},
    ),
    *[
        Case(
            "RandomFourierFeatures",
            {"features": 6, "seed": 1, **config},
            shape,
            expect={"trainable": 0, "non_trainable": 3},
        )
        for config, shape in [
            ({"kernel": "gaussian"}, (5, 3)),
            ({"kernel": "laplacian", "kernel_scale": 2.0}, (4, 2, 3)),
        ]
    ],
    Case(
        "DenseVariational",
        {"units": 4, "kl_weight": 0.01, "posterior": "kronecker"},
        expect={"trainable": 5, **DENSE_VARIATIONAL},
    ),
    Case(
        "OrdinalHead",
        {"classes": 4},
        expect={"trainable": 2, "non_trainable": 0, "half_precision_output": False},
    ),
    Case(
        "OrdinalHead",
        {"classes": 2, "link": "normal", "trainable_scale": True},
        (4, 2, 3),
        expect={"trainable": 2, "non_trainable": 0, "half_precision_output": False},
    ),
    Case(
        "VectorScaling",
        {"scale": [2.0, 1.0, 0.5], "bias": [0.0, 1.0, -1.0]},
        expect={"trainable": 0, "non_trainable": 2, "half_precision_output": False},
    ),
    Case(
        "BetaCalibration",
        {"a": 2.0, "b": 0.5, "c": 0.1},
        (5, 1),
        expect={"trainable": 0, "non_trainable": 3, "half_precision_output": False},
    ),
]
