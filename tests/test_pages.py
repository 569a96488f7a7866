"""Names and arguments that the pages and docstrings mention exist."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fastseqloss as fsl

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/*.rst"),
    *ROOT.glob("*.md"),
    *Path(fsl.__file__).parent.rglob("*.py"),
]
HERE = {"fastseqloss": "fastseqloss", "fsl": "fastseqloss", "np": "numpy", "numpy": "numpy"}
FRAMEWORKS = {
    "fst": "fastseqloss.torch",
    "fsj": "fastseqloss.jax",
    "F": "torch.nn.functional",
    "jnp": "jax.numpy",
    "jax": "jax",
    "optax": "optax",
    "torch": "torch",
    "torchcrf": "torchcrf",
}
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NAME = re.compile(rf"(?<![\w./])(?:{'|'.join(HERE | FRAMEWORKS)})(?:\.[A-Za-z_]\w*)+")


@cache
def code_in(path: Path) -> list[str]:
    """The code of a page: blocks, and what stands between backticks. Of a module the docstrings' code."""
    texts = [path.read_text(encoding="utf-8")]
    if path.suffix == ".py":
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        nodes = [node for node in ast.walk(ast.parse(texts[0])) if isinstance(node, documented)]
        texts = [ast.get_docstring(node) or "" for node in nodes]
    code = []
    for text in texts:
        code += BLOCK.findall(text)
        code += re.findall(r"^>>> .*(?:\n\.\.\. .*)*", text, re.MULTILINE)
        code += [span for _, span in re.findall(r"(`+)([^`\n]+)\1", BLOCK.sub("", text))]
    return code


def is_here(name: str) -> bool:
    """Return True if no framework is needed to find a name."""
    return name.partition(".")[0] in HERE and not re.match(r"fastseqloss\.(torch|jax)\b", name)


def found(name: str) -> Any:
    """The object of a dotted name; AttributeError where there is none."""
    first, *rest = name.split(".")
    value = importlib.import_module((HERE | FRAMEWORKS)[first])
    for part in rest:
        if inspect.ismodule(value) and not hasattr(value, part):
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except ModuleNotFoundError:
                raise AttributeError(name) from None
        value = getattr(value, part)
    return value


def unknown(here: bool) -> set[tuple[str, str]]:
    """The names that nothing has, and their pages."""
    missing = set()
    for path in PAGES:
        for name in {name for code in code_in(path) for name in NAME.findall(code)}:
            if is_here(name) == here:
                try:
                    found(name)
                except AttributeError:
                    missing.add((path.name, name))
    return missing


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls in spans of code that are whole expressions, and the names of what they call."""
    for code in code_in(path):
        try:
            tree = ast.parse(code.strip(), mode="eval")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                yield f"fsl.{name}" if name in fsl.__all__ else name, node


def wrong_arguments(here: bool) -> set[tuple[str, str]]:
    """Calls with keywords, or more arguments, than a function has."""
    wrong = set()
    for path in PAGES:
        for name, call in calls(path):
            if not NAME.fullmatch(name) or is_here(name) != here:
                continue
            try:
                parameters = inspect.signature(found(name)).parameters.values()
            except (AttributeError, ValueError):  # unknown, which another test says, or written in C
                continue
            keywords = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            positions = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
            if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
                continue
            if not {k.arg for k in call.keywords if k.arg} <= keywords or len(call.args) > positions:
                wrong.add((path.name, ast.unparse(call)))
    return wrong


def test_pages_are_read():
    names = {name for path in PAGES for code in code_in(path) for name in NAME.findall(code)}
    assert {"fsl.ctc_loss", "np.spacing", "torch.get_num_threads", "optax.losses.ctc_loss"} <= names


def test_reference_has_every_name():
    listed = re.findall(r"^   (\w+)(?:\.\w+)?$", (ROOT / "docs/api.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fsl.__all__) - set(listed) == set()


def test_names_here():
    assert not unknown(here=True)


def test_arguments_here():
    assert not wrong_arguments(here=True)


@pytest.mark.peers
def test_names_of_frameworks():
    for module in ("torch", "torchcrf", "jax", "optax"):
        pytest.importorskip(module, reason="the extra `peers` installs it")
    assert not unknown(here=False)


@pytest.mark.peers
def test_arguments_of_frameworks():
    for module in ("torch", "torchcrf", "jax", "optax"):
        pytest.importorskip(module, reason="the extra `peers` installs it")
    assert not wrong_arguments(here=False)


def test_variables_of_the_environment():
    """Those of this library that pages name are read somewhere, and the levels have the names they have."""
    texts = {path: path.read_text(encoding="utf-8") for path in PAGES}
    pages = "".join(text for path, text in texts.items() if path.suffix != ".py")
    sources = "".join(text for path, text in texts.items() if path.suffix == ".py")
    sources += "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("setup.py"))
    named = set(re.findall(r"FASTSEQLOSS_[A-Z]+", pages))
    assert "FASTSEQLOSS_ISA" in named
    if (ROOT / "setup.py").exists():
        assert {name for name in named if name not in sources} == set()
    levels = set(re.findall(r"FASTSEQLOSS_ISA=([\w-]+)", pages))
    assert levels <= {"x86_64_v2", "x86_64_v3", "x86_64_v4", "baseline"}


def test_nothing_is_fetched_under_the_name_of_the_package():
    """The package is in no index: pages install from a copy of the source."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in [*PAGES, *ROOT.glob("examples/*.py")]}
    assert not [name for name, text in texts.items() if "fastseqloss[" in text]
