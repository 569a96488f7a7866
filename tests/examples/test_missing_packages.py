"""Examples, benchmarks and adapters that lack a package name the extra that installs it."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from example_names import EXAMPLES, ROOT
from thoroughness import thorough

SHIPPED_WITH = {"PIL": "matplotlib", "distributed": "dask"}  # packages that install modules of other names
WITHOUT = """if True:
    import runpy, sys
    package, *sys.argv = sys.argv[1:]
    class Missing:
        def find_spec(self, name, *_):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Missing())
    program = runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module
    program(sys.argv[0], run_name="__main__")
"""


def run_without(package, *command, folder):
    """Run a script or a module while a package is missing; return its message."""
    command = [sys.executable, "-c", WITHOUT, package, *map(str, command)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def imported(path):
    """The packages that an example imports, at its top or later, beside the standard library."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return sorted(names - set(sys.stdlib_module_names))


@pytest.mark.parametrize(
    ("path", "package"),
    [
        (thorough if place else pytest.param)(path, package)  # one of each example; the others are imported beside it
        for path in sorted(EXAMPLES.glob("*.py"))
        for place, package in enumerate(sorted(imported(path), key="numpy".__ne__))
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_a_missing_package_is_a_line_that_names_the_extra(path, package, tmp_path):
    said = run_without(package, path, folder=tmp_path)
    line = re.fullmatch(r'this example needs ([\w.]+): python -m pip install "\.\[(\w+)\]" in .*\n', said)
    assert line, said
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + project["optional-dependencies"][line[2]]
    installed = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements} | {"fastseqloss"}
    assert {SHIPPED_WITH.get(name, name) for name in imported(path)} <= installed


@pytest.mark.parametrize(
    ("package", "command", "said"),
    [
        thorough("torch", [ROOT / "bench" / "compare.py", "ctc"], 'this needs torch: python -m pip install ".[peers]"'),
        thorough("torch", [ROOT / "bench" / "scaling.py", "grow", "PyTorch", 1, 2, 3, 1], '[peers]"'),
        thorough("matplotlib", [ROOT / "bench" / "scaling.py", "draw"], 'matplotlib: python -m pip install ".[plot]"'),
        thorough(
            "sklearn", ["fastseqloss", "demo"], "the demo needs sklearn, of the extra `demo`: python -m pip install"
        ),
        ("torch", ["fastseqloss.torch"], "fastseqloss.torch needs torch, of the extra `torch`"),
        thorough("jax", ["fastseqloss.jax"], "fastseqloss.jax needs jax, of the extra `jax`"),
    ],
    ids=["compare", "grow", "draw", "demo", "torch", "jax"],
)
def test_all_else_that_needs_a_package_names_the_extra(package, command, said, tmp_path):
    assert said in run_without(package, *command, folder=tmp_path).splitlines()[-1]
