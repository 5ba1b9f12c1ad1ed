"""What every family of distributions does with a tensor of parameters."""

import keras
from keras import ops

from keras_uq_layers import arguments
from keras_uq_layers.numerics import widen
from keras_uq_layers.numerics.positive import SCALE_FLOOR


class Family:
    """A family of distributions, read from and written to one tensor.

    A *params* tensor of shape `(..., P * D)` holds, for each batch position,
    the `P` parameters of `D` outputs as blocks of width `D`: for a normal,
    `[loc | scale]`. The values are constrained: a scale is positive and in
    the unit of `y`. A family has no state; it only knows the layout.

    To write your own family, subclass this class, name the `parameters`,
    register it with `keras.saving.register_keras_serializable` and implement

    - `constrain_parts(*raw, scale_floor)`: real features to parameters,
    - `unconstrain_parts(*parts, scale_floor)`: its inverse,
    - `initial_parts(scale)`: parameters of a distribution around 0 with
      about that standard deviation, as floats,
    - `marginal_log_prob(y, params)`, `mean(params)`, `variance(params)`,

    and as many of `cdf`, `quantile`, `crps`, `sample`, `affine` as exist.
    """

    name = "family"
    parameters: tuple[str, ...] = ()

    # Layout

    def params_size(self, units):
        """Width of the params tensor for `units` outputs: `P * units`.

        Args:
            units: Number of outputs `D`, a positive integer.

        Returns:
            Integer.
        """
        return len(self.parameters) * arguments.positive_int("units", units)

    def units(self, params_size):
        """Number of outputs `D` of a params tensor of that width.

        Args:
            params_size: Width of the last axis of a params tensor.

        Returns:
            Integer.

        Raises:
            ValueError: The width is not a multiple of the number of
                parameters of the family.
        """
        count = len(self.parameters)
        if params_size is None or params_size < count or params_size % count:
            raise ValueError(
                f"The last axis of `params` must hold {count} blocks "
                f"({', '.join(self.parameters)}) of equal width for the family "
                f"{self.name!r}. Received: a last axis of size {params_size}"
            )
        return params_size // count

    def split(self, params):
        """The parameters, one tensor of shape `(..., D)` each.

        Args:
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tuple of `P` tensors, in the order of `parameters`, float32 or
            wider.

        Raises:
            ValueError: The last axis does not divide into the blocks.
        """
        params = widen(params)
        units = self.units(params.shape[-1] if len(params.shape) else None)
        return tuple(
            params[..., i * units : (i + 1) * units]
            for i in range(len(self.parameters))
        )

    def join(self, *parts):
        """The params tensor of these parameters, the inverse of `split`."""
        return ops.concatenate(parts, axis=-1)

    def align(self, y, params):
        """`y` with the shape `(..., D)` that belongs to `params`.

        Args:
            y: Tensor of shape `(..., D)`, or `(...)` where `D` is 1.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            `y`, with its last axis added where it was missing.

        Raises:
            ValueError: The shapes do not agree. Nothing is broadcast.
        """
        y = ops.convert_to_tensor(y)
        shape = tuple(params.shape)
        units = self.units(shape[-1] if shape else None)
        wanted = (*shape[:-1], units)
        given = tuple(y.shape)
        if units == 1 and len(given) == len(shape) - 1:
            y = ops.expand_dims(y, -1)
        if len(y.shape) != len(wanted) or any(
            a is not None and b is not None and a != b
            for a, b in zip(y.shape, wanted, strict=True)
        ):
            raise ValueError(
                f"`y` must have shape {wanted} to agree with `params` of shape "
                f"{shape}: the family {self.name!r} reads {units} output(s) "
                f"from it. Received: y of shape {given}"
            )
        return y

    # From features to parameters

    def constrain(self, features, scale_floor=SCALE_FLOOR):
        """Real features to params: each in its range, scales above the floor.

        Args:
            features: Tensor of shape `(..., P * D)`, any real values.
            scale_floor: The smallest scale, a non-negative float.

        Returns:
            Params, a tensor of the same shape, float32 or wider.
        """
        parts = self.constrain_parts(*self.split(features), scale_floor=scale_floor)
        return self.join(*parts)

    def initial_features(self, units, scale, scale_floor=SCALE_FLOOR):
        """Features whose params are centred on 0 with about that scale.

        Args:
            units: Number of outputs `D`.
            scale: Standard deviation wanted, positive, above the floor.
            scale_floor: As for `constrain`.

        Returns:
            Tensor of shape `(P * D,)`.
        """
        parts = [
            ops.full((units,), part, dtype="float32")
            for part in self.initial_parts(scale)
        ]
        return self.join(*self.unconstrain_parts(*parts, scale_floor=scale_floor))

    def constrain_parts(self, *raw, scale_floor):
        raise self._missing("constrain_parts")

    def unconstrain_parts(self, *parts, scale_floor):
        raise self._missing("unconstrain_parts")

    def initial_parts(self, scale):
        raise self._missing("initial_parts")

    # What the parameters say

    def log_prob(self, y, params):
        """Log density of `y` in nats, summed over the outputs.

        Args:
            y: Tensor of shape `(..., D)`, or `(...)` where `D` is 1.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tensor of shape `(...)`, float32 or wider.

        Raises:
            ValueError: The shapes of `y` and `params` do not agree.
        """
        return ops.sum(self.marginal_log_prob(y, params), axis=-1)

    def marginal_log_prob(self, y, params):
        """Log density of each output on its own, in nats: `(..., D)`."""
        raise self._missing("marginal_log_prob")

    def mean(self, params):
        """Mean of each output, in the unit of `y`: `(..., D)`."""
        raise self._missing("mean")

    def variance(self, params):
        """Variance of each output, in the squared unit of `y`: `(..., D)`."""
        raise self._missing("variance")

    def cdf(self, y, params):
        """Probability of a value up to `y`, for each output: `(..., D)`."""
        raise self._missing("cdf")

    def quantile(self, p, params):
        """Value below which a share `p` lies, in the unit of `y`: `(..., D)`.

        Args:
            p: Probability: a float, or a tensor that broadcasts against
                `(..., D)`.
            params: Tensor of shape `(..., P * D)`.

        Returns:
            Tensor of shape `(..., D)`.
        """
        raise self._missing("quantile")

    def crps(self, y, params):
        """Continuous ranked probability score of each output: `(..., D)`.

        In the unit of `y`; smaller is better.
        """
        raise self._missing("crps")

    def entropy(self, params):
        """Entropy in nats: of each output `(..., D)`, or joint `(...)`."""
        raise self._missing("entropy")

    def draw_noise(self, shape, seed=None, dtype="float32"):
        """The parameter-free noise that `sample` turns into a draw.

        Args:
            shape: Shape of the draw.
            seed: Integer or `keras.random.SeedGenerator`.
            dtype: Float dtype.

        Returns:
            Tensor of that shape.
        """
        raise self._missing("draw_noise")

    def sample(self, params, sample_shape=(), *, seed=None, noise=None):
        """Draws from the distribution, differentiable in `params`.

        Args:
            params: Tensor of shape `(..., P * D)`.
            sample_shape: Tuple, put in front of the shape of one draw.
            seed: Integer or `keras.random.SeedGenerator`. Not with `noise`.
            noise: Tensor of shape `(*sample_shape, ..., D)` as `draw_noise`
                makes it, to reuse a draw.

        Returns:
            Tensor of shape `(*sample_shape, ..., D)`.
        """
        if noise is not None and seed is not None:
            raise ValueError("`sample` takes either `seed` or `noise`. Received both.")
        location = self.mean(params)
        if noise is None:
            noise = self.draw_noise(
                (*sample_shape, *ops.shape(location)),
                seed=seed,
                dtype=keras.backend.standardize_dtype(location.dtype),
            )
        return self.sample_from_noise(noise, params)

    def sample_from_noise(self, noise, params):
        raise self._missing("sample")

    def affine(self, params, shift, factor):
        """Params of `shift + factor * Y` where `Y` has these params.

        Args:
            params: Tensor of shape `(..., P * D)`.
            shift: Tensor that broadcasts against `(..., D)`.
            factor: Positive tensor that broadcasts against `(..., D)`.

        Returns:
            Tensor of the shape of `params`.
        """
        raise self._missing("affine")

    # Saving

    def get_config(self):
        """Arguments from which an equal family can be made."""
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), repr(self.get_config())))

    def __repr__(self):
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"

    def _missing(self, method):
        return NotImplementedError(
            f"The family {self.name!r} has no `{method}` in closed form."
        )
