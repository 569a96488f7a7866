"""How many random examples a test tries, relative to the profile in use."""

from hypothesis import settings


def examples(multiple: float) -> settings:
    """Settings for a test that needs more of them than others, or does with fewer."""
    return settings(max_examples=round(multiple * settings.default.max_examples))
