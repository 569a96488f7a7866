"""The parts of a test that run by default, and with `-m thorough`."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import settings

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
