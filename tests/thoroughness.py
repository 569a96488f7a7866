"""How much of a test runs by default, and how much with `-m thorough`."""

from functools import partial

import pytest
from hypothesis import settings

# A parameter set of thorough runs.
thorough = partial(pytest.param, marks=pytest.mark.thorough)


def examples(multiple: float) -> settings:
    """Settings for a test with this multiple of the number of random examples in the profile."""
    return settings(max_examples=round(multiple * settings.default.max_examples))
