"""Transducers with an additive joiner: options, layouts, edges, errors."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import transducer as reference

LABELS = [[1, 2, 1], [3, 1, 0], [4, 0, 0]]
FRAMES, COUNTS = [7, 5, 6], [3, 2, 0]


def scores(seed=0, dtype=np.float64, scale=1.0):
    """am [3, 7, 5] and lm [3, 4, 5], NaN in the padding."""
    rng = np.random.default_rng(seed)
    am, lm = (scale * rng.normal(size=(3, n, 5)) for n in (7, 4))
    for b in range(3):
        am[b, FRAMES[b] :], lm[b, COUNTS[b] + 1 :] = np.nan, np.nan
    return am.astype(dtype), lm.astype(dtype)


def loss(am, lm, labels=LABELS, frames=FRAMES, counts=COUNTS, **options):
    return fsl.rnnt_simple_loss(am, lm, labels, frames, counts, **{"return_grad": True} | options)


def expected(am, lm, **options):
    """Losses [B], and the gradients of their sum."""
    losses, slopes = [], [np.zeros(am.shape), np.zeros(lm.shape)]
    for b in range(3):
        n, m = FRAMES[b], COUNTS[b] + 1
        own = (x.astype(np.float64) for x in (am[b, :n], lm[b, :m]))
        value, slopes[0][b, :n], slopes[1][b, :m] = reference.simple(*own, LABELS[b][: COUNTS[b]], **options)
        losses.append(value)
    return np.array(losses), slopes


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("fastemit", [0.0, 0.5])
@pytest.mark.parametrize("blank", [0, -1])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_variants(level, topology, fastemit, blank, scale):
    am, lm = scores(scale=scale)
    labels = LABELS if blank == 0 else [[1, 2, 1], [3, 1, 0], [0, 0, 0]]
    options = {"topology": topology, "fastemit": fastemit, "blank": blank}
    found, (am_grad, lm_grad) = loss(am, lm, labels, **options, reduction="none")
    exact, slopes = expected(am, lm, **options)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    np.testing.assert_allclose(am_grad, slopes[0], atol=1e-11)
    np.testing.assert_allclose(lm_grad, slopes[1], atol=1e-11)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 1e4]), st.floats(0.0, 0.6))
def test_forbidden_classes(level, seed, scale, share):
    rng = np.random.default_rng(seed)
    am, lm = scale * rng.normal(size=(5, 4)), scale * rng.normal(size=(3, 4))
    for x in (am, lm):
        x[rng.random(x.shape) < share] = -np.inf
    found, (am_grad, lm_grad) = fsl.rnnt_simple_loss(am, lm, [1, 2], return_grad=True)
    exact, *slopes = reference.simple(am, lm, [1, 2])
    assert found == pytest.approx(exact, rel=1e-11)
    np.testing.assert_allclose(am_grad, slopes[0], atol=1e-10)
    np.testing.assert_allclose(lm_grad, slopes[1], atol=1e-10)


def test_many_labels_of_one_class(level):
    """A row of the gradient of am loses the occupancies of many labels at one class."""
    rng = np.random.default_rng(1)
    am, lm = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(31, 3)).astype(np.float32)
    labels = [2] * 30
    found, gradient = fsl.rnnt_simple_loss(am, lm, labels, return_grad=True)
    exact, *slopes = reference.simple(am.astype(float), lm.astype(float), labels)
    assert found == pytest.approx(exact, rel=2e-7)
    for slope, own in zip(slopes, gradient, strict=True):
        np.testing.assert_allclose(own, slope, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize("scale", [1e5, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores(level, dtype, scale):
    am, lm = scores(3, dtype, scale)
    found, gradient = loss(am, lm, reduction="none")
    exact, slopes = expected(am, lm)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    for slope, own in zip(slopes, gradient, strict=True):
        np.testing.assert_allclose(own, slope, atol=1e-6)


@pytest.mark.parametrize("dtypes", [(np.float16,) * 2, (ml_dtypes.bfloat16,) * 2, (np.float32, np.float64)])
def test_dtypes(level, dtypes):
    am, lm = (x.astype(dtype) for x, dtype in zip(scores(), dtypes, strict=True))
    found, gradient = loss(am, lm, reduction="none")
    exact, slopes = expected(am, lm)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    for slope, own, given_ in zip(slopes, gradient, (am, lm), strict=True):
        assert own.dtype == given_.dtype
        np.testing.assert_allclose(own.astype(float), slope, rtol=2.0**-8, atol=2e-6)


def test_scores_that_share_memory(level):
    am, lm = np.random.default_rng(5).normal(size=(7, 5)), np.random.default_rng(6).normal(size=(4, 5))
    for dtype in (np.float32, np.float64):
        arrays = [np.broadcast_to(x.astype(dtype), (3, *x.shape)) for x in (am, lm)]
        found, gradient = fsl.rnnt_simple_loss(*arrays, LABELS[:1] * 3, reduction="none", return_grad=True)
        plain, slopes = fsl.rnnt_simple_loss(
            *(x.copy() for x in arrays), LABELS[:1] * 3, reduction="none", return_grad=True
        )
        np.testing.assert_array_equal(found, plain)
        for own, slope in zip(gradient, slopes, strict=True):
            np.testing.assert_array_equal(own, slope)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.dtype(">f8")])
def test_layouts(level, dtype):
    am, lm = scores(dtype=np.float32)
    am, lm = am.astype(dtype), lm.astype(dtype)
    value, plain = loss(am, lm)
    views = []
    for x in (am, lm):
        strange = np.full((*x.shape, 2), 7, dtype).transpose(1, 2, 0, 3)[..., 0].transpose(2, 0, 1)
        strange[...] = x
        strange.flags.writeable = False
        views.append(strange)
    found, gradient = loss(*views)
    assert found == value
    for a, b in zip(gradient, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_in_place_and_into_arrays():
    am, lm = scores(dtype=np.float32)
    value, plain = loss(am, lm)
    for outs in (
        fsl.RNNTSimpleGradient(np.full_like(am, 7), np.full_like(lm, 7)),
        (None, np.full_like(lm, 7)),
        (np.full((3, 5, 7), 7, np.float32).swapaxes(1, 2), None),
        (am, lm),
    ):
        found, gradient = loss(am.copy() if outs[0] is None else am, lm, grad_out=outs)
        assert isinstance(gradient, fsl.RNNTSimpleGradient)
        assert found == value
        for out, own, right in zip(outs, gradient, plain, strict=True):
            assert out is own
            if out is not None:
                np.testing.assert_array_equal(own, right)


def test_direct_cells_in_place(level):
    am, lm = scores(dtype=np.float32, scale=100.0)
    value, plain = loss(am.copy(), lm.copy())
    found, gradient = loss(am, lm, grad_out=(am, lm))
    assert found == value
    for own, right in zip(gradient, plain, strict=True):
        np.testing.assert_array_equal(own, right)


@pytest.mark.parametrize("labels", [LABELS, [1, 2, 1, 3, 1], [[1, 2, 1], [3, 1], []], np.array(LABELS, np.uint8)])
def test_forms_of_labels(labels):
    am, lm = scores()
    assert loss(am, lm, labels)[0] == loss(am, lm)[0]


def test_reductions():
    am, lm = scores()
    each, plain = loss(am, lm, reduction="none")
    weight = np.array([0.5, 0.0, 2.0])
    for options, factor in (
        ({"reduction": "mean"}, np.full(3, 1 / 3)),
        ({"reduction": "sum", "normalizer": 4}, np.full(3, 0.25)),
        ({"reduction": "sequence_mean"}, 1 / 3 / np.array([3, 2, 1])),
        ({"reduction": "mean", "sample_weight": weight}, weight / 2.5),
    ):
        found, gradient = loss(am, lm, **options)
        assert found == pytest.approx(factor @ each, rel=1e-14)
        for own, slope in zip(gradient, plain, strict=True):
            np.testing.assert_allclose(own, factor[:, None, None] * slope, atol=1e-14)


def test_a_single_sequence():
    am, lm = scores()
    value, gradient = fsl.rnnt_simple_loss(am[0], lm[0], LABELS[0], return_grad=True, reduction="none")
    assert isinstance(value, float)
    assert [own.shape for own in gradient] == [(7, 5), (4, 5)]
    assert value == loss(am, lm, reduction="none")[0][0]


def test_infeasible():
    am, lm = np.zeros((2, 2, 3)), np.zeros((2, 4, 3))
    am[1] = lm[1] = np.nan
    arguments = (am, lm, [[1, 2, 1]] * 2, [2, 0])
    for infeasible, value in (("inf", np.inf), ("zero", 0.0)):
        found, gradient = fsl.rnnt_simple_loss(
            *arguments, topology="modified", infeasible=infeasible, reduction="none", return_grad=True
        )
        assert found.tolist() == [value, value]
        assert not any(own.any() for own in gradient)
    assert np.isfinite(fsl.rnnt_simple_loss(*arguments, reduction="none")[0])
    with pytest.raises(ValueError, match=r"logit_lengths\[1\] is 0; allowed: 1 or more; infeasible sequences: 1"):
        fsl.rnnt_simple_loss(*arguments, infeasible="raise")
    with pytest.raises(ValueError, match="infeasible sequences: 0, 1"):
        fsl.rnnt_simple_posteriors(*arguments, infeasible="raise", topology="modified")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stays_in_its_sequence(level, value):
    am, lm = scores()
    right, slopes = loss(am, lm, reduction="none")
    for bad, at in ((am, (1, 2, 4)), (lm, (1, 1, 0))):
        bad = bad.copy()
        bad[at] = value
        arguments = (bad, lm) if bad.shape == am.shape else (am, bad)
        found, gradient = loss(*arguments, reduction="none")
        assert np.isnan(found).tolist() == [False, True, False]
        np.testing.assert_array_equal(found[[0, 2]], right[[0, 2]])
        for own, slope, n in zip(gradient, slopes, (5, 3), strict=True):
            assert np.isnan(own[1, :n]).all()
            assert not own[1, n:].any()
            np.testing.assert_array_equal(own[[0, 2]], slope[[0, 2]])
        posteriors = fsl.rnnt_simple_posteriors(*arguments, LABELS, FRAMES, COUNTS)
        assert all(np.isnan(x[1, :5, :3]).all() and not np.isnan(x[[0, 2]]).any() for x in posteriors)


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_posteriors_are_those_of_the_sums(level, topology, dtype):
    am, lm = scores(dtype=dtype)
    found = fsl.rnnt_simple_posteriors(am, lm, LABELS, FRAMES, COUNTS, topology=topology)
    logits = am[:, :, None] + lm[:, None]
    right = fsl.rnnt_posteriors(logits, LABELS, FRAMES, COUNTS, topology=topology)
    assert isinstance(found, fsl.RNNTPosteriors)
    for own, other in zip(found, right, strict=True):
        assert (own.dtype, own.shape) == (dtype, (3, 7, 4))
        np.testing.assert_allclose(own, other, atol=2e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"am": np.zeros(3)}, ValueError, r"am has shape \(3,\); allowed: \[B, T, V\], or \[T, V\] for one sequence"),
        ({"lm": np.zeros(3)}, ValueError, r"lm has shape \(3,\); allowed: \[B, U\+1, V\], or \[U\+1, V\]"),
        ({"am": np.zeros((2, 3, 0))}, ValueError, "no classes"),
        ({"lm": np.zeros((2, 0, 4))}, ValueError, r"lm has shape \(2, 0, 4\): no nodes; allowed: \[2, U\+1, 4\]"),
        ({"lm": np.zeros((3, 3, 4))}, ValueError, r"lm has shape \(3, 3, 4\); allowed: \[2, U\+1, 4\], as am has"),
        ({"lm": np.zeros((2, 3, 5))}, ValueError, r"lm has shape \(2, 3, 5\); allowed: \[2, U\+1, 4\], as am has"),
        ({"lm": np.zeros((3, 4))}, ValueError, r"lm has shape \(3, 4\); allowed: \[2, U\+1, 4\], as am has"),
        ({"am": np.zeros((2, 5, 4), int)}, TypeError, "am has dtype int64; allowed: float16, bfloat16"),
        ({"lm": np.zeros((2, 2, 4))}, ValueError, r"lm has shape \(2, 2, 4\): 2 on axis 1, U\+1; allowed: 3 or more"),
        ({"labels": [[1, 4], [1, 1]]}, ValueError, r"labels\[0\]\[1\] is 4; allowed: 0 to 3, except 0, which"),
        ({"labels": [[1, 2]]}, ValueError, "labels has 1 sequence; allowed: 2, as in lm"),
        ({"logit_lengths": [6, 1]}, ValueError, r"logit_lengths\[0\] is 6; allowed: 0 to 5"),
        ({"label_lengths": [1, 3]}, ValueError, r"label_lengths\[1\] is 3; allowed: 0 to 2"),
        ({"blank": 4}, ValueError, "blank is 4; allowed: -4 to 3"),
        ({"topology": "k2"}, ValueError, "topology is 'k2'; allowed: 'regular', 'modified'"),
        ({"fastemit": -1}, ValueError, "fastemit is -1; allowed: finite, 0 or more"),
        ({"infeasible": None}, ValueError, "infeasible is None; allowed: 'inf', 'zero', 'raise'"),
        ({"reduction": "max"}, ValueError, "reduction is 'max'; allowed"),
        ({"sample_weight": [1, -1]}, ValueError, r"sample_weight\[1\] is -1.0; allowed: finite, 0 or more"),
        ({"num_threads": 0}, ValueError, "num_threads is 0; allowed: 1 or more"),
        ({"return_grad": 1}, TypeError, "return_grad must be a bool, got int"),
    ],
)
def test_errors(changes, error, message):
    arguments = {"am": np.zeros((2, 5, 4)), "lm": np.zeros((2, 3, 4)), "labels": [[1, 2], [3, 1]]} | changes
    with pytest.raises(error, match=message):
        fsl.rnnt_simple_loss(**arguments)


def _shared():
    room = np.zeros(52)
    return room[:40].reshape(2, 5, 4), room[28:].reshape(2, 3, 4), room


@pytest.mark.parametrize(
    ("grad_out", "error", "message"),
    [
        (np.zeros((2, 5, 4)), TypeError, "grad_out must be a RNNTSimpleGradient, or a tuple of 2, of arrays"),
        ((None,), ValueError, "grad_out has 1 arrays; allowed: a RNNTSimpleGradient, or a tuple"),
        ((np.zeros((2, 5, 3)), None), ValueError, r"grad_out.am has shape \(2, 5, 3\); allowed: \(2, 5, 4\)"),
        ((None, np.zeros((2, 3, 4), "f")), TypeError, "grad_out.lm has dtype float32; allowed: float64"),
        ((None, [0]), TypeError, "grad_out.lm must be a NumPy array, got list"),
        (_shared()[:2], ValueError, "grad_out.lm shares memory with grad_out.am; allowed: arrays apart"),
    ],
)
def test_errors_of_grad_out(grad_out, error, message):
    with pytest.raises(error, match=message):
        fsl.rnnt_simple_loss(np.zeros((2, 5, 4)), np.zeros((2, 3, 4)), [[1, 2], [3, 1]], grad_out=grad_out)


def test_gradients_must_not_overwrite_the_other_argument():
    am, lm = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match=r"grad_out.am shares memory with lm; allowed: am itself or apart"):
        fsl.rnnt_simple_loss(am, lm, [[1, 2], [3, 1]], grad_out=(lm, None))
    room = np.zeros(30)
    with pytest.raises(ValueError, match=r"grad_out.lm overlaps the input; allowed: the input itself or apart"):
        fsl.rnnt_simple_loss(
            am, room[:24].reshape(2, 3, 4), [[1, 2], [3, 1]], grad_out=(None, room[4:28].reshape(2, 3, 4))
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("topology", ["regular", "modified"])
def test_nodes_on_no_path_have_no_gradient(dtype, topology, level):
    """Scores of nodes on no path have no effect; in the modified topology they are not read."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 100, 7)
    for size in (30.0, 50.0, 1000.0):
        am, lm = (size * rng.normal(size=(n, 100)).astype(dtype) for n in (20, 8))
        lm[3, 40:90] = -np.inf
        lm[3, labels] = lm[3, 0] = 0
        value, gradient = fsl.rnnt_simple_loss(am, lm, labels, topology=topology, return_grad=True)
        right, whole = fsl.rnnt_loss(
            am.astype(float)[:, None] + lm.astype(float), labels, topology=topology, return_grad=True
        )
        assert value == pytest.approx(right, rel=2e-7)
        for found, expected in zip(gradient, (whole.sum(axis=1), whole.sum(axis=0)), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    lm = np.array([[0.0, 0.0], [-np.inf, -np.inf]], dtype)
    gradient = fsl.rnnt_simple_loss(np.zeros((1, 2), dtype), lm, [1], topology="modified", return_grad=True)[1]
    np.testing.assert_array_equal(gradient.lm, [[0.5, -0.5], [0, 0]])
    np.testing.assert_array_equal(gradient.am, [[0.5, -0.5]])


@pytest.mark.parametrize("terms", [1, 700])
def test_products_in_blocks(monkeypatch, terms):
    """Between blocks of a product of matrices Python looks at signals."""
    rng = np.random.default_rng(4)
    am, lm = rng.normal(size=(2, 40, 90)), rng.normal(size=(2, 6, 90))
    labels = rng.integers(1, 90, (2, 5))
    loss, grad = fsl.rnnt_simple_loss(am, lm, labels, return_grad=True)
    monkeypatch.setattr("fastseqloss.transducer.simple._MOST_TERMS", terms)
    other, other_grad = fsl.rnnt_simple_loss(am, lm, labels, return_grad=True)
    assert other == pytest.approx(loss, rel=1e-13)
    for a, b in zip(other_grad, grad, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)
