"""Threads, imports and PyTorch's defaults."""

import subprocess
import sys

import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

from torch_cases import FLOATS, every_loss, logits  # noqa: E402


@pytest.mark.parametrize(("theirs", "ours", "expected"), [(1, None, 1), (2, 1, 1)])
def test_threads_of_both(monkeypatch, theirs, ours, expected):
    from fastseqloss.torch import autograd

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(theirs)
        fsl.set_num_threads(ours)
        assert autograd.threads(None) == expected
        assert autograd.threads(7) == 7
    finally:
        torch.set_num_threads(before)
        fsl.set_num_threads(None)


def test_imports():
    """The package needs neither library; its modules of their names do not hide them."""
    code = """
import sys, fastseqloss
assert not {"torch", "jax", "ml_dtypes"} & set(sys.modules), "imported with the package"
from fastseqloss import torch as ours
import torch
assert torch is not ours and torch is sys.modules["torch"] and hasattr(torch, "Tensor")
assert ours is sys.modules["fastseqloss.torch"] and "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- PyTorch's defaults ---------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", FLOATS)
def test_default_device_and_dtype(loss, dtype):
    """Results are on the device of the scores, and do not depend on the defaults."""
    x = logits(dtype=dtype)
    expected = loss(x), torch.autograd.grad(loss(x) * 3, x)[0]
    alone = loss(x.detach())
    before = torch.get_default_dtype()
    for default in (torch.float64, torch.bfloat16):
        try:
            torch.set_default_dtype(default)
            torch.set_default_device("meta")
            found, again = loss(x), loss(x.detach())
            gradients = [torch.autograd.grad(found * 3, x, retain_graph=True)[0] for _ in range(2)]
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(before)
        for ours, wanted in zip([found, again, *gradients], [expected[0], alone, *expected[1:] * 2], strict=True):
            assert ours.device.type == "cpu"
            assert ours.dtype == wanted.dtype
            assert torch.equal(ours, wanted)
        with torch.device("meta"):
            assert torch.equal(loss(x), expected[0])
