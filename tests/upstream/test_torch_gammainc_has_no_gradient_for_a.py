"""PyTorch 2.13: `torch.special.gammainc(a, x)` has no derivative for `a`.

The workaround is `numerics.gammainc`.
"""

import pytest


def test_the_derivative_is_missing():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    a = torch.tensor(2.0, requires_grad=True)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"gammainc|igamma"):
        torch.special.gammainc(a, torch.tensor(1.0)).backward()
