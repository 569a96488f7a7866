"""Tagging schemes: constraints against enumeration by regular expressions, spans and tags there and back."""

import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl

SCHEMES = ("BIO", "BIOES", "BIOUL")
# A legal sequence, with tags as words: a span of label x or y, and steps outside.
SPANS = {
    "BIO": "(B-{0} (I-{0} )*)",
    "BIOES": "(S-{0} |B-{0} (I-{0} )*E-{0} )",
    "BIOUL": "(U-{0} |B-{0} (I-{0} )*L-{0} )",
}
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def tags_of(scheme, labels=("x", "y")):
    return ["O"] + [f"{prefix}-{label}" for label in labels for prefix in scheme if prefix != "O"]


def is_legal(path, scheme):
    span = "|".join(SPANS[scheme].format(label) for label in ("x", "y"))
    return re.fullmatch(f"(O |{span})*", "".join(f"{tag} " for tag in path)) is not None


@every_scheme
def test_constraints_match_enumeration(scheme):
    tags = tags_of(scheme)
    constraints = fsl.tag_constraints(tags, scheme)
    assert constraints.tags == tuple(tags)
    for length in (1, 2, 3):
        for path in product(range(len(tags)), repeat=length):
            score = constraints.start[path[0]] + constraints.end[path[-1]]
            score += sum(constraints.transitions[i, j] for i, j in pairwise(path))
            names = [tags[k] for k in path]
            legal = is_legal(names, scheme)
            assert score == (0 if legal else -np.inf)
            assert (constraints.first_violation(names) is None) == legal
            assert constraints.first_violation(path) == constraints.first_violation(names)


@every_scheme
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_illegal_path_is_decoded(level, scheme, dtype):
    tags = tags_of(scheme)
    limits = fsl.tag_constraints(tags, scheme)
    rng = np.random.default_rng(0)
    k = len(tags)
    emissions = rng.normal(scale=5, size=(30, 9, k)).astype(dtype)
    a, start, end = (rng.normal(size=size).astype(dtype) for size in ((k, k), k, k))
    ends = {"start": start + limits.start, "end": end + limits.end}
    assert ends["start"].dtype == dtype
    lengths = rng.integers(1, 10, 30)
    free = fsl.crf_decode(emissions, a, lengths, start=start, end=end).tags
    assert any(limits.first_violation(path) for path in free)
    for path, n in zip(fsl.crf_decode(emissions, a + limits.transitions, lengths, **ends).tags, lengths, strict=True):
        assert limits.first_violation(path) is None
        assert is_legal([tags[i] for i in path[:n]], scheme)


def test_the_first_violation():
    limits = fsl.tag_constraints(["O", "B-a", "I-a", "B-b", "I-b"])
    violation = limits.first_violation([0, 1, 4, 4])
    assert violation == (2, "B-a", "I-b", ("O", "B-a", "I-a", "B-b"))
    assert str(violation) == "path[2] is 'I-b' after 'B-a'; allowed: 'O', 'B-a', 'I-a', 'B-b'"
    assert str(limits.first_violation(["I-a"])) == "path[0] is 'I-a' at the start; allowed: 'O', 'B-a', 'B-b'"
    assert limits.first_violation([1, -1, 2, -1, -1]) is None  # outside the mask, and padding
    assert limits.first_violation([1, -1, 4]).position == 2
    assert limits.first_violation([]) is None
    limits = fsl.tag_constraints(["O", "S-a", "B-a", "E-a"], "BIOES")
    violation = limits.first_violation(np.array([1, 2]))
    assert violation == (2, "B-a", None, ("O", "S-a", "E-a"))
    assert str(violation) == "path ends with 'B-a'; allowed at the end: 'O', 'S-a', 'E-a'"


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ([0, 5], ValueError, r"path\[1\] is 5; allowed: 0 to 2, and -1"),
        ([-2], ValueError, r"path\[0\] is -2; allowed: 0 to 2, and -1"),
        (["O", "B-y"], ValueError, r"path\[1\] is 'B-y'; allowed: 'O', 'B-x', 'I-x'"),
        ([[0, 1]], ValueError, r"path has shape \(1, 2\); allowed: \[T\]"),
        ([0.0], TypeError, "path has dtype float64; allowed: any integer dtype"),
        ("O", TypeError, "path is 'O'; allowed: a sequence of str or int"),
        (None, TypeError, "path is None; allowed: a sequence of str or int"),
        (np.array(1), TypeError, r"path is array\(1\); allowed: a sequence of str or int"),
        (["O", 1], TypeError, r"path\[1\] is 1; allowed: a str"),
        ([-1, "O"], TypeError, r"path\[0\] is -1; allowed: a str"),
    ],
)
def test_wrong_paths(path, kind, said):
    with pytest.raises(kind, match=said):
        fsl.tag_constraints(["O", "B-x", "I-x"]).first_violation(path)


@pytest.mark.parametrize("function", [fsl.tag_constraints, fsl.spans_from_tags])
@pytest.mark.parametrize(
    ("tags", "kind", "said"),
    [
        (["O", "X-a"], ValueError, r"tags\[1\] is 'X-a'; allowed: 'O', 'B-...', 'I-...'"),
        (["O", "E-a"], ValueError, r"tags\[1\] is 'E-a'; allowed"),
        (["O-a"], ValueError, r"tags\[0\] is 'O-a'; allowed"),
        (["B_a"], ValueError, r"tags\[0\] is 'B_a'; allowed"),
        ([""], ValueError, r"tags\[0\] is ''; allowed"),
        (["O", 3], TypeError, r"tags\[1\] is 3; allowed: a str"),
        ("BIO", TypeError, "tags is 'BIO'; allowed: a sequence of str"),
        (5, TypeError, "tags is 5; allowed: a sequence of str"),
    ],
)
def test_wrong_tags(function, tags, kind, said):
    with pytest.raises(kind, match=said):
        function(tags)


def test_wrong_schemes_and_repeated_tags():
    for call in (fsl.tag_constraints, fsl.spans_from_tags, lambda tags, scheme: fsl.tags_from_spans([], 1, scheme)):
        with pytest.raises(ValueError, match="scheme is 'IOB'; allowed: 'BIO', 'BIOES', 'BIOUL'"):
            call(["O"], "IOB")
    with pytest.raises(ValueError, match=r"tags\[2\] is 'B-a', as tags\[1\] is; allowed: each tag once"):
        fsl.tag_constraints(["O", "B-a", "B-a"])


@st.composite
def spans(draw):
    """Spans apart from each other, some of them adjacent, and a length."""
    found, t = [], 0
    for _ in range(draw(st.integers(0, 4))):
        start = t + draw(st.integers(0, 2))
        t = start + draw(st.integers(1, 3))
        found.append((draw(st.sampled_from(("x", "y", "a-b", ""))), start, t))
    return found, t + draw(st.integers(0, 2))


@every_scheme
@given(problem=spans())
def test_spans_become_tags_and_spans_again(scheme, problem):
    found, length = problem
    tags = fsl.tags_from_spans(found[::-1], length, scheme)
    assert len(tags) == length
    assert fsl.spans_from_tags(tags, scheme) == found
    assert fsl.spans_from_tags(tags, scheme, strict=False) == found
    assert fsl.tag_constraints(sorted(set(tags)), scheme).first_violation(tags) is None


@every_scheme
@given(data=st.data())
def test_strict_reading_is_that_of_the_constraints(scheme, data):
    tags = data.draw(st.lists(st.sampled_from(tags_of(scheme)), max_size=6))
    if is_legal(tags, scheme):
        read = fsl.spans_from_tags(tags, scheme)
        assert read == fsl.spans_from_tags(tags, scheme, strict=False)
        assert fsl.tags_from_spans(read, len(tags), scheme) == tags
    else:
        with pytest.raises(ValueError, match=f"which {scheme} does not allow; pass strict=False"):
            fsl.spans_from_tags(tags, scheme)
        covered = sorted(
            t for _, start, end in fsl.spans_from_tags(tags, scheme, strict=False) for t in range(start, end)
        )
        assert covered == [t for t, tag in enumerate(tags) if tag != "O"]


def test_lenient_reading():
    """The spans of conlleval, whose last steps are included there."""
    read = fsl.spans_from_tags(["I-x", "I-x", "I-y", "O", "B-x", "I-y", "I-y"], strict=False)
    assert read == [("x", 0, 2), ("y", 2, 3), ("x", 4, 5), ("y", 5, 7)]
    read = fsl.spans_from_tags(["E-x", "I-x", "E-x", "S-x", "E-x", "B-x", "B-x"], "BIOES", strict=False)
    assert read == [("x", 0, 1), ("x", 1, 3), ("x", 3, 4), ("x", 4, 5), ("x", 5, 6), ("x", 6, 7)]


@pytest.mark.parametrize(
    ("found", "length", "kind", "said"),
    [
        ([("x", 0, 2), ("y", 1, 3)], 4, ValueError, r"spans\[1\] overlaps spans\[0\] at step 1; allowed: spans apart"),
        ([("x", 2, 2)], 4, ValueError, r"spans\[0\] is from 2 to 2; allowed: 0 <= start < end <= 4"),
        ([("x", 3, 5)], 4, ValueError, r"spans\[0\] is from 3 to 5; allowed"),
        ([("x", -1, 2)], 4, ValueError, r"spans\[0\] is from -1 to 2; allowed"),
        ([("x", 0)], 4, TypeError, r"spans\[0\] is \('x', 0\); allowed: \(label, start, end\)"),
        ([(0, 0, 1)], 4, TypeError, r"spans\[0\] is \(0, 0, 1\); allowed"),
        ([("x", 0.0, 1)], 4, TypeError, r"spans\[0\].start must be an integer, got float"),
        ([], -1, ValueError, "length is -1; allowed: 0 or more"),
        ([], 1.5, TypeError, "length must be an integer, got float"),
    ],
)
def test_wrong_spans(found, length, kind, said):
    with pytest.raises(kind, match=said):
        fsl.tags_from_spans(found, length)
