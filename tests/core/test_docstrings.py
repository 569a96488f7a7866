"""Prose of the sources: the same parameters in the same words, and sentences that begin with a noun or a verb."""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastseqloss
from fastseqloss import ctc

SOURCES = Path(fastseqloss.__file__).parent

# Folders whose prose is checked: the whole package.
CHECKED = ["."]

FAMILIES = ["crf", "ctc", "jax", "linear", "plot.py", "ranking", "recurrent", "rewards", "soft_dtw", "text", "torch"]

# Parameters of one name and several meanings, by family: functions whose description differs from that of the others.
OTHER_MEANINGS = {
    **{("crf", name): {"ctc_crf_loss"} for name in ("lengths", "reduction", "grad_out", "num_threads")},
    ("ctc", "blank"): {"ctc_collapse", "merge_tokens"},
    ("ctc", "infeasible"): {"ctc_align", "ctc_confidences", "ctc_entropy", "ctc_posteriors"},
    ("ctc", "label_lengths"): {"ctc_feasible", "ctc_risk_loss"},
    ("ctc", "labels"): {"ctc_align_windows", "ctc_feasible", "ctc_risk_loss"},
    ("ctc", "logit_lengths"): {"ctc_align_windows", "ctc_feasible", "merge_tokens"},
    ("ctc", "logits"): {"ctc_align_windows"},
    ("ctc", "num_threads"): {"ctc_risk_loss"},
    ("ctc", "reduction"): {"ctc_entropy", "ctc_risk_loss"},
    ("plot.py", "posteriors"): {"plot_alignment_path"},
    ("text", "path"): {"first_violation"},
    **{("linear", name): {"linear_ctc_loss"} for name in ("hidden", "scale", "reduction", "sample_weight", "chunk")},
    ("ranking", "scores"): {"bpr_max_loss", "top1_max_loss"},
    ("ranking", "reduction"): {"pairwise_hinge_loss", "pairwise_logistic_loss"},
    ("ranking", "relevance"): {"pairwise_logistic_loss", "list_softmax_loss"},
    ("ranking", "item_weight"): {"list_softmax_loss"},
    ("recurrent", "input_size"): {"Linear"},
    ("recurrent", "rng"): {"Embedding", "Linear"},
    ("rewards", "beta"): {"orpo_loss", "simpo_loss"},
    ("rewards", "kind"): {"clipped_policy_loss"},
    ("rewards", "decay"): {"generalized_advantages"},
    ("rewards", "values"): {"retrace_returns"},
    **{("rewards", name): {"orpo_loss", "simpo_loss"} for name in ("chosen", "rejected")},
    ("rewards", "rewards"): {"group_advantages"},
    ("rewards", "grad_out"): {"dpo_loss", "expected_risk_loss", "kto_loss"},
    ("rewards", "log_probs"): {"expected_risk_loss"},
    ("rewards", "lengths"): {"expected_risk_loss"},
    ("rewards", "mask"): {"expected_risk_loss"},
    ("rewards", "num_threads"): {"dpo_loss", "expected_risk_loss", "kto_loss"},
    ("rewards", "ref_log_probs"): {"kto_loss"},
    ("rewards", "reduction"): {"dpo_loss", "expected_risk_loss", "kto_loss"},
    ("rewards", "return_grad"): {"dpo_loss"},
    ("rewards", "sample_weight"): {"dpo_loss", "expected_risk_loss", "kto_loss"},
    ("soft_dtw", "grad_out"): {"soft_dtw_cost"},
    ("soft_dtw", "lengths_x"): {"soft_dtw_cost"},
    ("soft_dtw", "lengths_y"): {"soft_dtw_cost"},
    ("text", "separator"): {"read_arpa", "words_from_spans"},
    ("text", "vocabulary"): {"read_arpa"},
    **{("torch", name): {"forced_align"} for name in ("log_probs", "targets", "input_lengths", "target_lengths")},
    ("torch", "blank"): {"forced_align", "merge_tokens"},
    ("torch", "reduction"): {"cross_entropy", "forward"},
}


def files_of(path: Path) -> list[Path]:
    """Return a file, or the files of a folder."""
    return [path] if path.is_file() else sorted(path.rglob("*"))


def sources(*suffixes: str) -> list[Path]:
    """Return the checked sources of these suffixes."""
    files = [file for name in CHECKED for file in files_of(SOURCES / name)]
    return [file for file in files if file.suffix in suffixes]


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ""


def blocks(comments: list[tuple[int, bool, str]]) -> Iterator[str]:
    """Join comments (line, alone on its line, text) on consecutive lines of their own."""
    joined, last = "", -1
    for line, alone, text in comments:
        if alone and line == last + 1:
            joined += " " + text
        else:
            yield joined
            joined = text
        last = line if alone else -1
    yield joined


def python_prose(text: str) -> Iterator[str]:
    """Return docstrings and comments."""
    yield from docstrings(ast.parse(text))
    comments = [
        (token.start[0], not token.line[: token.start[1]].strip(), token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from blocks(comments)


def c_prose(text: str) -> Iterator[str]:
    """Return comments of C, and comments and docstrings of Cython."""
    for found in re.finditer(r'/\*(.*?)\*/|"""(.*?)"""', text, re.DOTALL):
        yield " ".join((found[1] or found[2] or "").split())
    lines = enumerate(text.splitlines())
    matches = [
        (i, re.match(r"(.*?)(?:#(?!\s*(?:include|define|if|else|endif|undef|pragma|error))|//)\s*(.*)", line))
        for i, line in lines
    ]
    yield from blocks([(i, not found[1].strip(), found[2]) for i, found in matches if found])


def prose(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    parts = python_prose(text) if file.suffix in (".py", ".pyi") else c_prose(text)
    return [" ".join(part.split()) for part in parts if part.strip()]


@pytest.mark.parametrize(
    "file", sources(".py", ".pyi", ".pyx", ".pxd", ".h"), ids=lambda file: str(file.relative_to(SOURCES))
)
def test_prose(file):
    for part in prose(file):
        assert not re.match(r"(what|where|whether)\b", part, re.IGNORECASE), f"opens with a conjunction: {part[:100]}"
        assert not re.search(r" is no (?!longer\b)", part), f"an inverted negation: {part[:100]}"


def test_prose_is_found():
    text = '"""Whole."""\nx = 1  # inline\n# two\n# lines\n'
    assert [part for part in python_prose(text) if part] == ["Whole.", "inline", "two lines"]
    text = "/* Block\n   here. */\n#include <math.h>\nint x;  // inline\n# one\n# two\n"
    assert [part for part in c_prose(text) if part] == ["Block here.", "inline", "one two"]


def parameters(docstring: str) -> dict[str, str]:
    """Return the description of each parameter, without those that refer to another function."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    described = {}
    for entry in re.finditer(r"^(\S.*)\n((?:[ ]+.*\n|\n)*)", section[1] + "\n" if section else "", re.MULTILINE):
        names = entry[1].partition(" : ")[0]
        text = " ".join(entry[2].split())
        if text and not text.startswith(("As of ", "As for ")):
            described |= dict.fromkeys(names.split(", "), text)
    return described


def described(family: str) -> dict[str, dict[str, str]]:
    """Return the descriptions of each parameter of a family, by function or class."""
    found: dict[str, dict[str, str]] = {}
    for file in filter(lambda file: file.suffix == ".py", files_of(SOURCES / family)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                for parameter, text in parameters(ast.get_docstring(node) or "").items():
                    found.setdefault(parameter, {})[node.name] = text
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_have_one_description(family):
    found = described(family)
    assert found
    different = []
    for parameter, texts in found.items():
        others = OTHER_MEANINGS.get((family, parameter), set())
        assert others <= texts.keys(), f"{parameter} of {others - texts.keys()} is not described"
        same = {text: name for name, text in texts.items() if name not in others}
        if len(same) > 1:
            different += [f"{name}, {parameter}: {text}" for text, name in same.items()]
    assert not different, "\n".join(different)


def test_parameters_are_found():
    assert set(parameters(inspect.getdoc(ctc.ctc_loss))) == set(inspect.signature(ctc.ctc_loss).parameters)
