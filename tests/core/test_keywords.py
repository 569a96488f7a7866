"""Messages for keywords and names of other libraries."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import fastseqloss as fsl
from fastseqloss._core.keywords import BATCH_FIRST, FUNCTIONS, KEYWORDS, known_keywords

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
PUBLIC = {name: getattr(fsl, name) for name in fsl.__all__ if inspect.isfunction(getattr(fsl, name))}
PARAMETERS = {name: inspect.signature(function).parameters for name, function in PUBLIC.items()}


def takes(function, argument):
    """Return True if a function has the argument, and its docstring allows the value if that is a string."""
    name, _, value = argument.partition("=")
    described = re.search(rf"^ *{name} : (.*)$", PUBLIC[function].__doc__, re.MULTILINE)
    return name in PARAMETERS[function] and (value[:1] != '"' or described is None or value in described[1])


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_message_names_our_keyword(keyword):
    for ours in KEYWORDS[keyword]:
        first = [other.partition("=")[0] for other in KEYWORDS[keyword]]
        first = set(first[: first.index(ours.partition("=")[0])])  # that would be named instead
        known = [
            name
            for name, given in PARAMETERS.items()
            if keyword not in given and takes(name, ours) and first.isdisjoint(given)
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


@pytest.mark.parametrize("keyword", ["log_probs", "from_logits", "targets", "beta", "reduce"])
def test_message_names_nothing_else(keyword):
    check_names_nothing_else(keyword, fsl)


@pytest.mark.thorough
@pytest.mark.parametrize("package", ["fastseqloss", "fastseqloss.torch", "fastseqloss.jax"])
def test_message_names_nothing_else_anywhere(package):
    if package != "fastseqloss":
        pytest.importorskip(package.partition(".")[2])
    for keyword in [*KEYWORDS][::3] if package == "fastseqloss" else ("log_probs", "targets"):
        check_names_nothing_else(keyword, importlib.import_module(package))


def check_names_nothing_else(keyword, module):
    """Neither a value that the function does not allow, nor an argument of another meaning that is spelled alike."""
    for name in PUBLIC:
        function = getattr(module, name, None)
        if function is None or keyword in PARAMETERS[name]:
            continue
        with pytest.raises(TypeError) as error:
            function(**{keyword: None})
        named = str(error.value).partition("here it is ")[2]
        assert not named or misspelled(keyword, named) or (named in KEYWORDS[keyword] and takes(name, named)), error


def misspelled(keyword, named):
    """Return True for a name that differs in an ending alone."""
    return named.startswith(keyword) or keyword.startswith(named)


@pytest.mark.parametrize(("function", "keyword"), [(fsl.poisson_nll_loss, "log_probs"), (fsl.crf_decode, "targets")])
def test_keywords_that_mean_nothing_here(function, keyword):
    with pytest.raises(TypeError, match=rf"has no argument '{keyword}'; allowed: "):
        function([[0.0]], [[0.0]], **{keyword: 0})


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
    alike = {"CTCLoss": "ctc_loss", "MSELoss": "mse_loss", "ctc_los": "ctc_loss", "mse": "mse_loss"}
    for name, ours in {**FUNCTIONS, **alike}.items():
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; here it is fastseqloss\.{ours}\b"):
            getattr(fsl, name)
    for name in ("xyzzy", "entropy", "focal_loss", "softmax"):  # of the last ones, several functions are alike
        with pytest.raises(AttributeError, match=rf"^module 'fastseqloss' has no attribute '{name}'$"):
            getattr(fsl, name)
    with pytest.raises(AttributeError, match=r"fastseqloss\.torch\.CTCLoss is a module of PyTorch$"):
        fsl.CTCLoss  # noqa: B018


def test_swapped_axes():
    """Scores whose first axis is time: lengths, or targets, have the other axis in front."""
    scores = [[[0.0, 0.0]] * 2] * 5  # [T, B, V]
    cause = r"; the axes of batch and time are probably swapped: array\.swapaxes\(0, 1\) swaps them$"
    with pytest.raises(
        ValueError, match=r"^logit_lengths has shape \(2,\); allowed: \(5,\), one for each sequence" + cause
    ):
        fsl.ctc_loss(scores, [[1], [1]], [5, 4])
    with pytest.raises(ValueError, match=r"^targets has shape \(2, 5\); .*" + cause):
        fsl.softmax_cross_entropy(scores, [[0] * 5] * 2)
    with pytest.raises(ValueError, match=r"^tags has shape \(2, 5\); .*" + cause):
        fsl.crf_loss(scores, [[0] * 5] * 2, [[0.0, 0.0]] * 2)
    with pytest.raises(ValueError, match=r"pass advantages\[:, 0\]$"):
        fsl.policy_gradient_loss([[[0.0, 0.0]] * 5] * 2, [[0] * 5] * 2, [[1.0], [1.0]])
