"""Types, as mypy and Pyright see them: of the package, in the code of every page, and in the examples."""

import ast
import doctest
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fastseqloss as fsl
from package_stub import PATH, stub

ROOT = Path(__file__).parents[1]
MYPY = """[mypy]
strict = true
allow_untyped_calls = true
allow_untyped_defs = true
allow_incomplete_defs = true
allow_redefinition = true
warn_return_any = false
follow_imports = silent
ignore_missing_imports = true
[mypy-torch.*,jax.*,optax.*]
follow_imports = skip
"""  # functions of pages and examples have no annotations; the types of frameworks take mypy minutes


def test_stub_is_up_to_date():
    assert PATH.read_text() == stub(), "python tests/package_stub.py writes it"


STEP = ([0.5, 0.25], [0.25, 0.75])
ONE_STEP = {  # arguments of a single step, without batch
    "clipped_policy_loss": (STEP[0], 1, -1.0, 0.5),
    "cosine_distance_loss": STEP,
    "kl_divergence": STEP,
    "linear_cross_entropy": (STEP[0], [[1.0, 2.0], [0.0, 1.0]], 1),
    "linear_policy_loss": (STEP[0], [[1.0, 2.0], [0.0, 1.0]], 1, 0.5),
    "multiclass_hinge_loss": (STEP[0], 1),
    "multilabel_margin_loss": (STEP[0], [0, 1]),
    "nll_loss": (STEP[0], 1),
    "policy_gradient_loss": (STEP[0], 1, 0.5),
    "softmax_cross_entropy": (STEP[0], 1),
    "softmax_focal_loss": (STEP[0], 1),
    "sparsemax_loss": STEP,
}


@cache
def declarations():
    """The functions of the stub."""
    return [node for node in ast.parse(PATH.read_text()).body if isinstance(node, ast.FunctionDef)]


def declared(name):
    """Types that a loss returns without gradient for reductions that do not return a float."""
    for node in declarations():
        if node.name == name:
            options = {argument.arg: ast.unparse(argument.annotation) for argument in node.args.kwonlyargs}
            if "'none'" in options.get("reduction", "") and options["return_grad"] == "Literal[False]":
                return ast.unparse(node.returns)
    return "Any"


def test_losses_of_one_step_are_numbers():
    """The types of reductions to arrays leave room for them."""
    for name, arguments in ONE_STEP.items():
        assert isinstance(getattr(fsl, name)(*arguments, reduction="none"), float)
        assert declared(name) == "NDArray[np.float64] | Any"
    others = [name for name in fsl.__all__ if declared(name) == "NDArray[np.float64]"]
    assert "mse_loss" in others
    for name in others:  # an axis of steps is an axis of the batch
        with pytest.raises(ValueError, match=r" has shape \(\); allowed: \[B\], "):
            getattr(fsl, name)(0.0, 0.0, *([1.0] if name == "gaussian_nll_loss" else []))


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """A folder with the code of each page, and the examples."""
    folder = tmp_path_factory.mktemp("documented")
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        code = "\n".join(map(plain, re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)))
        (folder / f"page_{page.stem.replace('-', '_').lower()}.py").write_text(code)
    for example in (ROOT / "examples").glob("*.py"):
        (folder / example.name).write_text(example.read_text())
    assert len(pages) > 20
    return folder


def plain(block):
    """The code of a block, without prompts, results and what raises TypeError, which type checkers reject."""
    examples = doctest.DocTestParser().get_examples(block)
    valid = (example.source for example in examples if not (example.exc_msg or "").startswith("TypeError"))
    return "".join(valid) if examples else block


def run(*command, folder):
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.peers
def test_mypy(documented):
    pytest.importorskip("mypy", reason="the extra `lint` installs it")
    (documented / "mypy.ini").write_text(MYPY)
    done = run("mypy", "--no-error-summary", "--cache-dir", str(documented / "cache"), ".", folder=documented)
    assert not done.returncode, done.stdout + done.stderr


@pytest.mark.peers
def test_pyright(documented):
    pytest.importorskip("basedpyright", reason="the extra `lint` installs it")
    settings = {"typeCheckingMode": "standard", "reportMissingImports": False, "reportPossiblyUnboundVariable": False}
    (documented / "pyrightconfig.json").write_text(json.dumps(settings))
    done = run("basedpyright", "--level", "error", "--pythonpath", sys.executable, ".", folder=documented)
    assert not done.returncode, done.stdout + done.stderr
