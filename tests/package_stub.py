"""Types of the package's functions, for type checkers: `python tests/package_stub.py` writes `__init__.pyi`.

A loss has an overload for each kind of result. Aliases are written out, so that editors show what is allowed.
"""

import ast
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import fastseqloss as fsl

SCALAR = ("sum", "mean", "sequence_mean", "batch_mean")  # reductions to a float
PATH = Path(fsl.__file__).with_suffix(".pyi")
LENGTH = 120


def stub() -> str:
    """The stub of the package."""
    losses = [name for name in sorted(fsl.__all__) if "return_grad" in _parameters(getattr(fsl, name))]
    functions = "".join(Loss(getattr(fsl, name)).overloads() for name in losses)
    names = "".join(f'    "{name}",\n' for name in sorted(fsl.__all__))
    return f"""# Written by tests/package_stub.py.

from collections.abc import Sequence
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

{_imports(losses)}
__all__ = [
{names}]

__version__: str

class _Array(Protocol):  # of NumPy or of another library
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

{functions}"""


def _parameters(value: Any) -> Any:
    return inspect.signature(value).parameters if inspect.isfunction(value) else {}


def _imports(but: list[str]) -> str:
    """The imports of the package, each name as itself, but for functions that the stub declares."""
    lines = []
    for node in ast.parse(Path(fsl.__file__).read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name in fsl.__all__ and alias.name not in but]
            origin = "." * node.level + (node.module or "")
            lines += [f"from {origin} import {name} as {name}\n" for name in names]
    return "".join(lines)


class Loss:
    """A loss, and the types of its arguments and results."""

    def __init__(self, function: Any):
        self.name = function.__name__
        self.parameters = inspect.signature(function).parameters
        self.types = {name: _expanded(given.annotation, function) for name, given in self.parameters.items()}
        result = _expanded(inspect.signature(function).return_annotation, function)
        pairs = [part.elts[1] for part in map(_items, _union(result)) if part is not None]
        self.gradient, self.chosen = map(ast.unparse, (pairs[0], pairs[-1]))  # by default, and by with_respect_to
        self.of_any_axes = "array_like [..., " in function.__doc__
        self.types["grad_out"] = _Given().visit(self.types["grad_out"])
        outs = [ast.unparse(part) for part in _union(self.types["grad_out"])]
        one = [kind for kind in outs if kind == "_Array"] if self.gradient == "NDArray[Any]" else outs[:-1]
        self.out = " | ".join(one)
        self.outs = " | ".join(kind for kind in outs[:-1] if kind not in one or self.chosen == self.gradient)

    def overloads(self) -> str:
        """The declarations of the function, by what a call returns."""
        written = [case for reduction, loss in self.reductions() for case in self.cases(reduction, loss)]
        every = dict.fromkeys(result for _, result in written)
        written.append(({"return_grad": "bool"}, "Any" if "Any" in every else " | ".join(every)))
        return "".join(self.overload(given, result) for given, result in written)

    def reductions(self) -> list[tuple[str, str]]:
        """Declarations of `reduction`, with the type of the loss."""
        if "reduction" not in self.types:
            return [("", "Any")]
        names = [node.value for node in ast.walk(self.types["reduction"]) if isinstance(node, ast.Constant)]
        scalar = [name for name in names if name in SCALAR]
        others = [name for name in names if name not in SCALAR]
        array = "NDArray[np.float64]" if "step_mean" in names else "Any"  # of one sequence, a float
        if self.of_any_axes and array != "Any":
            array += " | Any"  # of one step, a float
        return [(f"Literal{_quoted(scalar)} = ...", "float"), (f"Literal{_quoted(others)}", array)]

    def cases(self, reduction: str, loss: str) -> list[tuple[dict[str, str], str]]:
        """Declarations of the options of a kind of call, with what it returns."""
        given = {"reduction": reduction, "with_respect_to": "None = ..."}
        pair = f"tuple[{loss}, {self.gradient}]"
        cases = [
            (given | {"return_grad": "Literal[False] = ...", "grad_out": "None = ..."}, loss),
            (given | {"return_grad": "Literal[True]", "grad_out": f"{self.out} | None = ..."}, pair),
            (given | {"return_grad": "bool = ...", "grad_out": self.out}, pair),
        ]
        if "with_respect_to" in self.types:
            chosen = {"return_grad": "bool = ...", "grad_out": f"{self.outs} | None = ..."}
            cases.append((given | chosen | {"with_respect_to": "Sequence[str]"}, f"tuple[{loss}, {self.chosen}]"))
        return cases

    def overload(self, given: dict[str, str], result: str) -> str:
        """A declaration, with other types for some of the parameters."""

        def declared(parameter: inspect.Parameter) -> str:
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            return given.get(parameter.name) or ast.unparse(self.types[parameter.name]) + default

        lines = [""]
        for part in declarations(self.parameters.values(), declared):
            if len(lines[-1]) + len(part) > LENGTH - 6:
                lines.append("")
            lines[-1] += f" {part},"
        return f"@overload\ndef {self.name}(\n" + "".join(f"   {line}\n" for line in lines) + f") -> {result}: ...\n"


def declarations(parameters: Iterable[inspect.Parameter], declared: Callable[[inspect.Parameter], str]) -> list[str]:
    """The parameters of a function, given the type and default of each; a star precedes those passed by keyword."""
    parts: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(f"{parameter.name}: {declared(parameter)}".replace("'", '"'))
    return parts


def _quoted(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _union(kind: ast.expr) -> list[ast.expr]:
    """The members of a union."""
    if isinstance(kind, ast.BinOp):
        return _union(kind.left) + _union(kind.right)
    return [kind]


def _items(kind: ast.expr) -> Any:
    """The members of a tuple of two, or None."""
    if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "tuple" and len(kind.slice.elts) == 2:
        return kind.slice
    return None


def _expanded(annotation: str, function: Any) -> ast.expr:
    """An annotation of a function, with aliases of the package written out; `Loss` stays."""
    return _Written(inspect.unwrap(function).__module__).visit(ast.parse(annotation, mode="eval").body)


class _Written(ast.NodeTransformer):
    def __init__(self, module: str):
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = _alias(self.module, node.id) if node.id != "Loss" else None
        if found is None:
            return node
        module, value = found
        return _Written(module).visit(ast.parse(value, mode="eval").body)


class _Given(ast.NodeTransformer):
    """Makes arrays that a function writes to those of any library; the fields of named tuples stay."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return ast.Name("_Array") if ast.unparse(node) == "NDArray[Any]" else self.generic_visit(node)


@cache
def _alias(module: str, name: str) -> tuple[str, str] | None:
    """The module and the text of an alias of types that a module of the package uses, or None."""
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
    package = module if importlib.util.find_spec(module).submodule_search_locations else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return module, ast.unparse(node.value)
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names] and node.level:
            return _alias(importlib.util.resolve_name("." * node.level + (node.module or ""), package), name)
    return None


if __name__ == "__main__":
    PATH.write_text(stub())
