"""Stubs of the compiled modules contain the functions of the modules, with the same parameters."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from fastseqloss import _kernels
from fastseqloss._core import levels

FOLDER = Path(_kernels.__file__).parent
STUBS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix().replace("/", ".") for path in FOLDER.rglob("*.pyi"))


def compiled(name):
    try:
        return levels.load(name)
    except ModuleNotFoundError:
        return importlib.import_module(f"fastseqloss._kernels.{name}")


def parameters(function):
    """Names of parameters, with whether they have defaults, as a stub's syntax tree has them."""
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    required = len(names) - len(function.args.defaults)
    return [(name, i >= required) for i, name in enumerate(names)]


def stubbed(name):
    """Functions of a stub and their parameters; those of fused types are mappings to classes that can be called."""
    body = ast.parse((FOLDER / f"{name.replace('.', '/')}.pyi").read_text()).body
    calls = {
        node.name: parameters(node.body[0])
        for node in body
        if isinstance(node, ast.ClassDef) and isinstance(node.body[0], ast.FunctionDef)
    }
    functions = {node.name: parameters(node) for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
        variants = annotation.slice if isinstance(annotation, ast.Subscript) else None
        call = getattr(variants.elts[-1], "id", "") if isinstance(variants, ast.Tuple) else ""
        if call in calls:  # other variables are constants
            functions[node.target.id] = calls[call]
    return functions


def signature(function):
    return [
        (parameter.name, parameter.default is not parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]


def test_every_kernel_has_a_stub():
    paths = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob(f"*_{levels.level}.*")]
    kernels = {path.partition(f"_{levels.level}.")[0].replace("/", ".") for path in paths}
    assert "ctc.loss" in kernels
    assert kernels <= set(STUBS)


@pytest.mark.parametrize("name", STUBS)
def test_stub_agrees_with_the_compiled_module(name):
    module = compiled(name)
    there = {
        key: value for key, value in vars(module).items() if type(value).__name__.startswith(("cython_f", "fused_cy"))
    }
    there |= {key: value for key, value in vars(module).items() if type(value).__name__ == "builtin_function_or_method"}
    functions = stubbed(name)
    assert set(functions) == set(there)
    for key, expected in functions.items():
        variants = getattr(there[key], "__signatures__", {"": there[key]})
        assert variants
        for variant in variants.values():
            assert signature(variant) == expected
