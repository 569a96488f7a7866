"""Types, as mypy and Pyright see them: of the package, in the code of every page, and in the examples."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from package_stub import PATH, stub

ROOT = Path(__file__).parents[1]
MYPY = """[mypy]
strict = true
allow_untyped_calls = true
allow_untyped_defs = true
allow_redefinition = true
follow_imports = silent
ignore_missing_imports = true
[mypy-torch.*,jax.*,optax.*]
follow_imports = skip
"""  # functions of pages and examples have no annotations; the types of frameworks take mypy minutes


def test_stub_is_up_to_date():
    assert PATH.read_text() == stub(), "python tests/package_stub.py writes it"


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
    """The code of a block, without prompts and results."""
    return "".join(example.source for example in doctest.DocTestParser().get_examples(block)) or block


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
    settings = {"typeCheckingMode": "standard", "reportMissingImports": False, "reportAttributeAccessIssue": True}
    (documented / "pyrightconfig.json").write_text(json.dumps(settings))
    done = run("basedpyright", "--level", "error", "--pythonpath", sys.executable, ".", folder=documented)
    assert not done.returncode, done.stdout + done.stderr
