"""The headers of the kernels can be included together."""

import pytest

from c_compiler import HEADERS, LEVELS, STANDARD_C, STRICT, compile_c
from thoroughness import spread

NAMES = sorted(path.relative_to(HEADERS).as_posix() for path in HEADERS.rglob("*.h"))
# Templates are included by the header beside them, once for each type.
WHOLE = [name for name in NAMES if not name.endswith(".inc.h")]


def _source(folder, names):
    """All of these headers in one file, twice: the second time they are empty."""
    path = folder / "headers.c"
    first = ["#include <Python.h>"] if any(name.startswith("parallel/") for name in names) else []
    lines = [*first, *(f'#include "{name}"' for name in [*names, *names])]
    path.write_text("\n".join([*lines, "int main(void) { return 0; }", ""]))
    return path


@pytest.mark.parametrize(("level", "order", "flags"), spread(LEVELS, [1, -1], [[], STANDARD_C], every=3))
def test_all_in_one_file(tmp_path, level, order, flags):
    compile_c(_source(tmp_path, WHOLE[::order]), tmp_path, level, [*STRICT, *flags])


@pytest.mark.thorough
def test_each_alone(tmp_path):
    """No header needs another to have been included before it."""
    for name in WHOLE:
        compile_c(_source(tmp_path, [name]), tmp_path, next(iter(LEVELS)), STRICT)


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit(name):
    lines = (HEADERS / name).read_text().splitlines()
    assert [i for i, line in enumerate(lines, 1) if len(line) > 120 or line != line.rstrip()] == []
