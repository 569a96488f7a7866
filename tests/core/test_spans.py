"""Spans of labels: a tuple with its mean, checked when it is made."""

import copy
import pickle

import numpy as np
import pytest

import fastseqloss as fsl

SPAN = fsl.TokenSpan(7, 2, 5, -0.75)


def test_the_mean_is_an_element_of_the_tuple():
    assert tuple(SPAN) == (7, 2, 5, -0.75, -0.25)
    assert SPAN._fields == ("label", "start", "end", "log_prob", "mean_log_prob")
    assert SPAN._asdict()["mean_log_prob"] == SPAN.mean_log_prob == -0.25


@pytest.mark.parametrize(
    "made",
    [
        lambda: pickle.loads(pickle.dumps(SPAN)),
        lambda: copy.copy(SPAN),
        lambda: copy.deepcopy(SPAN),
        lambda: SPAN._replace(log_prob=-3.0)._replace(log_prob=-0.75),
        lambda: fsl.TokenSpan._make(SPAN),
        lambda: fsl.TokenSpan._make(iter((7, 2, 5, -0.75))),
        lambda: fsl.TokenSpan(np.int32(7), np.uint8(2), np.int64(5), np.float32(-0.75)),
    ],
)
def test_copies(made):
    span = made()
    assert span == SPAN
    assert type(span) is fsl.TokenSpan
    assert [type(x) for x in span] == [int, int, int, float, float]


def test_the_mean_follows_what_is_replaced():
    assert SPAN._replace(end=4).mean_log_prob == -0.375


@pytest.mark.parametrize("log_prob", [-np.inf, np.float32(-np.inf)])
def test_impossible_frames(log_prob):
    assert fsl.TokenSpan(1, 0, 2, log_prob).mean_log_prob == -np.inf


@pytest.mark.parametrize(
    ("error", "said", "fields"),
    [
        (ValueError, r"end is 2; allowed: above start, which is 2", (1, 2, 2, 0.0)),
        (ValueError, r"end is 1; allowed: above start, which is 2", (1, 2, 1, 0.0)),
        (ValueError, r"start is -1; allowed: 0 or more", (1, -1, 2, 0.0)),
        (TypeError, r"label must be an integer, got str", ("a", 0, 2, 0.0)),
        (TypeError, r"start must be an integer, got float", (1, 0.0, 2, 0.0)),
        (TypeError, r"end must be an integer, got NoneType", (1, 0, None, 0.0)),
        (TypeError, r"log_prob must be a number, got str", (1, 0, 2, "a")),
        (TypeError, r"log_prob must be a number, got bool", (1, 0, 2, True)),
    ],
)
def test_errors(error, said, fields):
    with pytest.raises(error, match=said):
        fsl.TokenSpan(*fields)


@pytest.mark.peers
def test_tables():
    pandas = pytest.importorskip("pandas", reason="the extra `peers` installs it")
    polars = pytest.importorskip("polars", reason="the extra `peers` installs it")
    spans = fsl.ctc_greedy_decode(np.eye(3)[[1, 1, 0, 2]] - 0.5).spans()
    for table in (pandas.DataFrame(spans), polars.DataFrame(spans)):
        assert list(table.columns) == list(SPAN._fields)
        assert table["mean_log_prob"].to_list() == [span.mean_log_prob for span in spans]
