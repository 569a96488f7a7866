"""Threads, imports and PyTorch's defaults."""

import subprocess
import sys

import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")


@pytest.mark.parametrize(("theirs", "ours", "expected"), [(1, None, 1), (2, 1, 1)])
def test_threads_of_both(monkeypatch, theirs, ours, expected):
    from fastseqloss import _autograd

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(theirs)
        fsl.set_num_threads(ours)
        assert _autograd.threads(None) == expected
        assert _autograd.threads(7) == 7
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
