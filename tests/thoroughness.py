"""The parts of a test that run by default, and with `-m thorough`."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import settings

from fastseqloss._core import levels

# A parameter set of thorough runs.
thorough = partial(pytest.param, marks=pytest.mark.thorough)


def examples(multiple: float) -> settings:
    """Settings for a test with this multiple of the number of random examples in the profile."""
    return settings(max_examples=round(multiple * settings.default.max_examples))


def spread(*axes: Iterable[Any], every: int) -> list[Any]:
    """Parameter sets of all combinations of the axes' values; by default one of `every`, the others in thorough runs.

    The places of a default set on its axes add up to a multiple of `every`, as in a Latin square. So of three axes
    with `every` values or more, any two values of different axes meet by default.
    """
    sets = product(*(list(enumerate(axis)) for axis in axes))
    return [
        (thorough if sum(place for place, _ in each) % every else pytest.param)(*(value for _, value in each))
        for each in sets
    ]


# ---- which tests of those collected ---------------------------------------------------------

FEW = 6  # combinations of parameters that all run by default


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _level(item: pytest.Item) -> str:
    """The instruction set level that is a parameter of a test, or an empty string."""
    callspec = getattr(item, "callspec", None)
    given = {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
    return next(iter(given.intersection(levels.available_levels())), "")


def _parameters(item: pytest.Item) -> list[str]:
    """The first name of each `parametrize` mark of a test."""
    names = [mark.args[0] for mark in item.iter_markers("parametrize")]
    return [name.split(",")[0].strip() if isinstance(name, str) else name[0] for name in names]


def mark_combinations(items: Sequence[pytest.Item]) -> None:
    """Mark as thorough two in three combinations of several parameters, if a test has more than a few.

    A checksum of the names chooses them, so that they differ from test to test, and each loss meets a third of the
    tests with each of its dtypes. Sets from `spread` and lists of cases are one parameter, and a parameter whose other
    values are thorough is none.
    """
    tests = {item: (_test(item), _level(item)) for item in items if not item.get_closest_marker("thorough")}
    sets, seen = Counter(tests.values()), set()
    values = defaultdict(set)
    for item, test in tests.items():
        for name in _parameters(item):
            values[test, name].add(id(item.callspec.params[name]))
    for item, test in tests.items():
        combined = sum(len(values[test, name]) > 1 for name in _parameters(item)) > 1
        if combined and sets[test] > FEW and test in seen and _checksum(item.nodeid.replace(test[1], "")) % 3:
            item.add_marker(pytest.mark.thorough)
        seen.add(test)


def mark_other_levels(items: Sequence[pytest.Item]) -> None:
    """Mark as thorough what repeats a test at a level other than the one in use."""
    for item in items:
        if _level(item) not in ("", levels.level):
            item.add_marker(pytest.mark.thorough)


def repeated(items: Sequence[pytest.Item], of_levels: Sequence[str]) -> set[pytest.Item]:
    """Thorough parameter sets at all levels but one of these, which a checksum of the names chooses."""
    return {
        item
        for item in items
        if (level := _level(item))
        and item.get_closest_marker("thorough")
        and level != of_levels[_checksum(f"level of {item.nodeid.replace(level, '')}") % len(of_levels)]
    }


def beyond(items: Sequence[pytest.Item], n: int) -> set[pytest.Item]:
    """Of the parameter sets of each test all but the first and one in n, which a checksum of the names chooses."""
    seen, left_out = set(), set()
    for item in items:
        if _test(item) in seen and _checksum(f"share of {item.nodeid}") % n:
            left_out.add(item)
        seen.add(_test(item))
    return left_out
