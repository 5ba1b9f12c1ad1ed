"""Random numbers on PyTorch: those of `keras.random`, by a shorter way.

`predict` runs several passes at once with `torch.vmap`, each with a seed of its own.
Within `vmap` a seed has no value that can be read, and `keras.random` fails. The
functions here get all seeds at once and draw once from each, so that a pass has the
numbers that it would have alone.
"""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import torch

from keras_uq_layers import _keras
from keras_uq_layers._typing import Seed

# A function of PyTorch that draws from its argument `generator`.
Draw = Callable[..., torch.Tensor]


def normal(shape: Any, dtype: str, seed: Seed) -> torch.Tensor:
    return _drawn(functools.partial(torch.randn, shape, **_options(dtype)), seed)


def uniform(shape: Any, minval: float, dtype: str, seed: Seed) -> torch.Tensor:
    draw = functools.partial(torch.rand, tuple(shape), **_options(dtype))
    return (1.0 - minval) * _drawn(draw, seed) + minval


def integers(shape: Any, maxval: int, seed: Seed) -> torch.Tensor:
    options = _options("int32")
    return _drawn(functools.partial(torch.randint, 0, maxval, shape, **options), seed)


def kept(shape: Any, rate: float, seed: Seed) -> torch.Tensor:
    """Booleans of which the share `rate` is false."""
    share = torch.full(shape, 1.0 - rate, device=_keras.torch_device())
    return _drawn(functools.partial(torch.bernoulli, share), seed).bool()


def _options(dtype: str) -> dict[str, Any]:
    return {"dtype": getattr(torch, dtype), "device": _keras.torch_device()}


def _drawn(draw: Draw, seed: Seed) -> torch.Tensor:
    state = _keras.random_module().draw_seed(seed)
    try:
        states = [state.tolist()]
    except RuntimeError:  # within `torch.vmap` a state has no numbers
        return _EachPass.apply(state, draw)
    return next(_drawn_from(states, draw))


def _drawn_from(states: Sequence[Sequence[int]], draw: Draw) -> Iterator[torch.Tensor]:
    """A draw from each state of a seed generator of Keras."""
    generator = torch.Generator(device=_keras.torch_device())
    for numbers in states:
        generator.manual_seed(sum(numbers) & 0xFFFFFFFF)
        yield draw(generator=generator)


class _EachPass(torch.autograd.Function):
    """A draw that `torch.vmap` makes pass by pass, each from its own state."""

    @staticmethod
    def forward(state: torch.Tensor, draw: Draw) -> torch.Tensor:
        return next(_drawn_from([state.tolist()], draw))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Random numbers have no gradient."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, state: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, int]:
        states = state.movedim(in_dims[0], 0).tolist()
        return torch.stack(list(_drawn_from(states, draw))), 0
