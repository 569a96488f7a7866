"""Messages for keywords and names of other libraries."""

import inspect
import re
from pathlib import Path

import pytest

import fastseqloss as fsl
from fastseqloss._core.keywords import BATCH_FIRST, FUNCTIONS, KEYWORDS, known_keywords

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
PUBLIC = {name: getattr(fsl, name) for name in fsl.__all__ if inspect.isfunction(getattr(fsl, name))}
PARAMETERS = {name: inspect.signature(function).parameters for name, function in PUBLIC.items()}


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_message_names_our_keyword(keyword):
    for ours in KEYWORDS[keyword]:
        first = [other.partition("=")[0] for other in KEYWORDS[keyword]]
        first = set(first[: first.index(ours.partition("=")[0])])  # that would be named instead
        known = [
            name
            for name, given in PARAMETERS.items()
            if keyword not in given and ours.partition("=")[0] in given and first.isdisjoint(given)
        ]
        assert known, f"no function lacks {keyword} and has {ours}"
        for name in known:
            with pytest.raises(TypeError, match=rf"^{name} has no argument '{keyword}'; here it is {re.escape(ours)}$"):
                PUBLIC[name](**{keyword: None})


def test_page_lists_keywords():
    table = PAGE.read_text().partition("## Keywords")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert {keyword: tuple(re.findall(r"`(.+?)`", ours)) for keyword, ours in rows} == KEYWORDS


@pytest.mark.parametrize("keyword", BATCH_FIRST)
def test_batch_first(keyword):
    with pytest.raises(TypeError, match=f"^ctc_loss has no argument '{keyword}'; arrays are batch first"):
        fsl.ctc_loss([[0.0, 0.0]], [1], **{keyword: True})


def test_unknown_keywords():
    with pytest.raises(TypeError, match=r"^mse_loss has no argument 'length'; here it is lengths$"):
        fsl.mse_loss([0.0], [0.0], length=[1])
    with pytest.raises(TypeError, match=r"^crf_decode has no argument 'xyzzy'; allowed: emissions, transitions, "):
        fsl.crf_decode([[0.0]], [[0.0]], xyzzy=1)


def test_other_type_errors_are_those_of_the_function():
    @known_keywords
    def inner(x, *, y=0):
        raise TypeError("of the function")

    with pytest.raises(TypeError, match=r"^of the function$"):
        inner(0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        inner(y=1)


def test_functions_keep_names_and_signatures():
    for name, function in PUBLIC.items():
        assert function.__name__ == name
        assert list(PARAMETERS[name]) == list(inspect.signature(inspect.unwrap(function)).parameters)


def test_names_of_other_libraries():
    assert set(FUNCTIONS.values()) <= set(PUBLIC)
    for name, ours in {**FUNCTIONS, "CTCLoss": "ctc_loss", "MSELoss": "mse_loss", "ctc_los": "ctc_loss"}.items():
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; here it is fastseqloss\.{ours}\b"):
            getattr(fsl, name)
    with pytest.raises(AttributeError, match=r"^module 'fastseqloss' has no attribute 'xyzzy'$"):
        fsl.xyzzy  # noqa: B018
    with pytest.raises(AttributeError, match=r"fastseqloss\.torch\.CTCLoss is a module of PyTorch$"):
        fsl.CTCLoss  # noqa: B018
