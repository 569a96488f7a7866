"""Token-and-duration transducers: options, layouts, edges, errors."""

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from transducer_cases import random_tdt

DURATIONS = (0, 1, 2, 4)


def case_of(seed=0, dtype=np.float64, shape=(3, 8, 4, 6), **options):
    return random_tdt(np.random.default_rng(seed), shape, DURATIONS, dtype=dtype, full=True, **options)


def ragged(dtype=np.float64):
    """Three sequences, with NaN in the padding."""
    case = case_of(dtype=dtype)
    case.lengths = np.array([8, 5, 7])
    case.tokens = [y[:n] for y, n in zip(case.tokens, (4, 2, 0), strict=True)]
    for b, n in enumerate(case.lengths):
        for x in (case.logits, case.duration_logits):
            x[b, n:] = np.nan
            x[b, :, len(case.tokens[b]) + 1 :] = np.nan
    return case


def run(case, **options):
    return fsl.tdt_loss(*case.arguments, **case.options, **{"return_grad": True} | options)


def equal(found, right):
    assert np.array_equal(found[0], right[0])
    for own, other in zip(found[1], right[1], strict=True):
        np.testing.assert_array_equal(np.asarray(own, float), np.asarray(other, float))


def test_one_frame_for_every_arc_is_the_modified_topology(level):
    """With durations of one frame only, the paths that end with the blank remain."""
    case = case_of(3)
    loss = fsl.tdt_loss(case.logits, np.ones((3, 8, 5, 1)), *case.arguments[2:], durations=[1], reduction="none")
    log_probs = case.logits - np.log(np.exp(case.logits).sum(axis=-1, keepdims=True))
    log_probs[:, -1, :, 1:] = -np.inf
    right = fsl.rnnt_loss(log_probs, *case.arguments[2:], input="log_probs", topology="modified", reduction="none")
    np.testing.assert_allclose(loss, right, rtol=1e-13)


def test_long_durations_are_not_taken(level):
    case = case_of(1)
    more = np.concatenate([case.duration_logits, np.full((3, 8, 5, 2), -np.inf)], -1)
    arguments = (case.logits, more, *case.arguments[2:])
    found, gradient = fsl.tdt_loss(*arguments, durations=[*DURATIONS, 9, 2**62], blank=case.blank, return_grad=True)
    right, slopes = run(case)
    assert found == right
    np.testing.assert_array_equal(gradient.logits, slopes.logits)
    np.testing.assert_array_equal(gradient.duration_logits[..., :4], slopes.duration_logits)
    assert not gradient.duration_logits[..., 4:].any()


def test_sigma_is_taken_from_every_arc():
    """Every path of five blanks of one frame has five arcs."""
    rng = np.random.default_rng(0)
    logits, of_durations = rng.normal(size=(5, 1, 4)), rng.normal(size=(5, 1, 2))
    of_durations[..., 1] = -np.inf
    plain = fsl.tdt_loss(logits, of_durations, [], durations=[1, 3])
    for sigma in (0.05, 1, 1e9):
        found = fsl.tdt_loss(logits, of_durations, [], durations=[1, 3], sigma=sigma)
        assert found == pytest.approx(plain + 5 * sigma, rel=1e-15)


@pytest.mark.parametrize("dtypes", [(np.float16, ml_dtypes.bfloat16), (np.float32, np.float64), (np.float64, "f2")])
def test_dtypes_of_their_own(level, dtypes):
    case = ragged()
    case.logits, case.duration_logits = (
        x.astype(dtype) for x, dtype in zip((case.logits, case.duration_logits), dtypes, strict=True)
    )
    loss, gradient = run(case, reduction="none")
    for b, n in enumerate(case.lengths):
        exact = case.solve(b)
        assert loss[b] == pytest.approx(exact.loss, rel=1e-6)
        for own, slope, given in zip(gradient, exact[1:], (case.logits, case.duration_logits), strict=True):
            assert (own.dtype, own.shape) == (given.dtype, given.shape)
            part = own[b, :n, : len(case.tokens[b]) + 1].astype(float)
            np.testing.assert_allclose(part, slope, rtol=2.0**-8, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.dtype(">f8")])
def test_layouts(level, dtype):
    case = ragged(np.float32)
    case.logits, case.duration_logits = case.logits.astype(dtype), case.duration_logits.astype(dtype)
    right = run(case)
    for name in ("logits", "duration_logits"):
        x = getattr(case, name)
        strange = (
            np.full((*x.shape, 2), 7, dtype).transpose(1, 0, 2, 3, 4)[..., 0].copy(order="F").transpose(1, 0, 2, 3)
        )
        strange[...] = x
        strange.flags.writeable = False
        setattr(case, name, strange)
    equal(run(case), right)


def test_gradients_in_place_and_into_arrays():
    for dtype in (np.float32, np.float16):
        right = run(ragged(dtype))
        for which in ("apart", "in place", "first", "second"):
            case = ragged(dtype)
            inputs = case.logits, case.duration_logits
            outs = inputs if which == "in place" else tuple(np.full_like(x, 7) for x in inputs)
            outs = (outs[0] if which != "second" else None, outs[1] if which != "first" else None)
            found = run(case, grad_out=outs)
            assert isinstance(found[1], fsl.TDTGradient)
            assert all(out is own for out, own in zip(outs, found[1], strict=True))
            equal(found, (right[0], [None if out is None else own for out, own in zip(outs, right[1], strict=True)]))


def test_forms_of_labels_and_reductions():
    case = ragged()
    losses, slopes = run(case, reduction="none")
    logits, of_durations, labels, frames, counts = case.arguments
    forms = (case.tokens, np.concatenate(case.tokens), labels.astype(np.int8))
    for form in forms:
        equal(
            fsl.tdt_loss(
                logits, of_durations, form, frames, counts, **case.options, reduction="none", return_grad=True
            ),
            (losses, slopes),
        )
    weight = np.array([0.5, 0.0, 2.0])
    for options, factor in (
        ({"reduction": "mean"}, np.full(3, 1 / 3)),
        ({"reduction": "sum", "normalizer": 4}, np.full(3, 0.25)),
        ({"reduction": "sequence_mean"}, 1 / 3 / np.maximum(counts, 1)),
        ({"reduction": "mean", "sample_weight": weight}, weight / 2.5),
    ):
        found, gradient = run(case, **options)
        assert found == pytest.approx(factor @ losses, rel=1e-14)
        for own, slope in zip(gradient, slopes, strict=True):
            np.testing.assert_allclose(own, factor[:, None, None, None] * slope, atol=1e-14)


def test_a_single_sequence():
    case = case_of(2)
    loss, gradient = fsl.tdt_loss(
        case.logits[0], case.duration_logits[0], case.tokens[0], **case.options, return_grad=True, reduction="none"
    )
    assert isinstance(loss, float)
    assert [own.shape for own in gradient] == [(8, 5, 6), (8, 5, 4)]
    assert loss == run(case, reduction="none")[0][0]


@pytest.mark.parametrize("where", ["logits", "duration_logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stays_in_its_sequence(level, where, value):
    case = ragged()
    right, slopes = run(case, reduction="none")
    getattr(case, where)[1, 2, 1, 3] = value
    loss, gradient = run(case, reduction="none")
    assert np.isnan(loss).tolist() == [False, True, False]
    np.testing.assert_array_equal(loss[[0, 2]], right[[0, 2]])
    for own, slope in zip(gradient, slopes, strict=True):
        assert np.isnan(own[1, :5, :3]).all()
        assert not own[1, 5:].any()
        assert not own[1, :, 3:].any()
        np.testing.assert_array_equal(own[[0, 2]], slope[[0, 2]])


INFEASIBLE = (  # durations, frames, labels, a path exists
    ((2,), 3, 0, False), ((2,), 4, 0, True), ((2,), 4, 1, True), ((2,), 4, 2, False), ((0, 2), 4, 9, True),
    ((0, 2), 5, 1, False), ((1,), 3, 2, True), ((1,), 3, 3, False), ((3, 5), 7, 0, False), ((3, 5), 8, 1, True),
    ((3, 5), 8, 2, False), ((3, 5), 9, 2, True), ((0, 4), 3, 0, False), ((1,), 0, 0, False), ((2, 3), 7, 2, True),
)  # fmt: skip


@pytest.mark.parametrize(("durations", "frames", "count", "feasible"), INFEASIBLE)
def test_infeasible(durations, frames, count, feasible):
    logits, of_durations = np.zeros((1, 9, count + 1, 3)), np.zeros((1, 9, count + 1, len(durations)))
    arguments = (logits, of_durations, np.ones((1, count), int), [frames])
    loss, gradient = fsl.tdt_loss(*arguments, durations=durations, return_grad=True)
    assert np.isfinite(loss) == feasible
    assert feasible or not any(own.any() for own in gradient)
    assert (fsl.tdt_loss(*arguments, durations=durations, infeasible="zero") == 0) == (not feasible)
    if feasible:
        assert fsl.tdt_loss(*arguments, durations=durations, infeasible="raise") == loss
    else:
        said = rf"logit_lengths\[0\] is {frames}; allowed: a sum of .* positive durations.*; infeasible sequences: 0"
        with pytest.raises(ValueError, match=said):
            fsl.tdt_loss(*arguments, durations=durations, infeasible="raise")


@pytest.mark.parametrize("where", ["logits", "duration_logits"])
@pytest.mark.parametrize(("mask", "grain"), [(-(2.0**30), 8), (-(2.0**40), 8), (-(2.0**100), 0), (-1e300, 0)])
def test_a_mask_that_every_path_crosses(level, where, mask, grain):
    """Paths that cross huge scores are told apart by the small ones: as with a mask of -2000, whose digits are kept."""
    rng = np.random.default_rng(7)
    logits, of_durations = rng.normal(size=(6, 4, 5)), rng.normal(size=(6, 4, 3))
    small = rng.integers(-16, 16, (4, 5)) / grain if grain else np.zeros((4, 5))
    labels, durations = [1, 2, 3], [0, 1, 2]
    results = []
    for size in (mask, -2000.0):
        x, d = logits.copy(), of_durations.copy()
        if where == "logits":  # class 4, which no arc has, takes all the probability of two frames
            x[2:4, :, :4] = size + small[:, :4]
            x[2:4, :, 4] = 0
        else:  # the durations that lead out of two frames
            d[2:4, :, 1:] = size + small[:, 1:3]
            d[2:4, :, 0] = 0
        results.append(fsl.tdt_loss(x, d, labels, durations=durations, return_grad=True))
        assert fsl.tdt_loss(x, d, labels, durations=durations) == results[-1][0]
    (loss, gradient), (_, right) = results
    assert loss == pytest.approx(-mask, rel=1e-7)
    for own, slope in zip(gradient, right, strict=True):
        np.testing.assert_allclose(own, slope, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_exact_path_agrees_with_the_other(level, sigma):
    """A huge score that no path has to cross sends the sequence there."""
    for seed in range(5):
        case = case_of(seed, sigma=sigma)
        case.logits[:, 1, 2, 0] = -1e9
        with_mask, gradient = run(case, reduction="none")
        case.logits[:, 1, 2, 0] = -5000.0
        right, slopes = run(case, reduction="none")
        np.testing.assert_allclose(with_mask, right, rtol=1e-13)
        for own, slope in zip(gradient, slopes, strict=True):
            np.testing.assert_allclose(own, slope, atol=1e-12)


def test_all_classes_forbidden():
    case = case_of()
    case.logits[1, 0, 0] = -np.inf
    case.duration_logits[2, 0, 0] = -np.inf
    loss, gradient = run(case, reduction="none")
    assert np.isinf(loss).tolist() == [False, True, True]
    assert not any(own[1:].any() for own in gradient)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"logits": np.zeros((2, 3))}, ValueError, r"logits has shape \(2, 3\); allowed: \[B, T, U\+1, V\]"),
        ({"logits": np.zeros((2, 5, 3, 4), int)}, TypeError, "logits has dtype int64; allowed: float16"),
        ({"logits": np.zeros((2, 5, 2, 4))}, ValueError, r"logits has shape \(2, 5, 2, 4\): 2 on axis 2, U\+1"),
        ({"duration_logits": np.zeros(3)}, ValueError, r"duration_logits has shape \(3,\); allowed: \[B, T, U\+1, D\]"),
        ({"duration_logits": np.zeros((2, 5, 3, 2))}, ValueError, r"allowed: \(2, 5, 3, 3\), as durations has 3 n"),
        ({"duration_logits": np.zeros((2, 4, 3, 3))}, ValueError, r"allowed: \(2, 5, 3, 3\), D numbers for each row"),
        ({"duration_logits": np.zeros((2, 5, 3, 3), "U1")}, TypeError, "duration_logits has dtype <U1; allowed: fl"),
        ({"durations": [0, 1, 1]}, ValueError, r"durations\[2\] is 1 again; allowed: distinct numbers"),
        ({"durations": [0, -1, 1]}, ValueError, r"durations\[1\] is -1; allowed: 0 or more"),
        ({"durations": [0, 1.0, 2]}, TypeError, "durations has dtype float64; allowed: any integer dtype"),
        ({"durations": [[0, 1, 2]]}, ValueError, r"durations has shape \(1, 3\); allowed: one dimension"),
        ({"durations": []}, ValueError, r"durations is \[\]; allowed: at least one above 0"),
        ({"durations": [0]}, ValueError, r"durations is \[0\]; allowed: at least one above 0"),
        ({"labels": [[1, 4], [1, 1]]}, ValueError, r"labels\[0\]\[1\] is 4; allowed: 0 to 3, except 0"),
        ({"logit_lengths": [6, 1]}, ValueError, r"logit_lengths\[0\] is 6; allowed: 0 to 5"),
        ({"blank": 4}, ValueError, "blank is 4; allowed: -4 to 3"),
        (
            {"durations": [1, 2, 3], "logit_lengths": [2, 5], "infeasible": "raise"},
            ValueError,
            r"logit_lengths\[0\] is 2; allowed: a sum of 3 or more positive durations, as sequence 0 has 2 labels; inf",
        ),
        (
            {"durations": [0, 3, 4], "logit_lengths": [4, 5], "infeasible": "raise"},
            ValueError,
            r"logit_lengths\[1\] is 5; allowed: a sum of 1 or more positive durations; infeasible sequences: 1",
        ),
        ({"sigma": -0.1}, ValueError, "sigma is -0.1; allowed: finite, 0 or more"),
        ({"sigma": np.nan}, ValueError, "sigma is nan; allowed"),
        ({"infeasible": "skip"}, ValueError, "infeasible is 'skip'; allowed: 'inf', 'zero', 'raise'"),
        ({"reduction": "max"}, ValueError, "reduction is 'max'; allowed"),
        ({"sample_weight": [1, -1]}, ValueError, r"sample_weight\[1\] is -1.0; allowed: finite, 0 or more"),
        ({"num_threads": 0}, ValueError, "num_threads is 0; allowed: 1 or more"),
        (
            {"grad_out": np.zeros((2, 5, 3, 4))},
            TypeError,
            "grad_out must be a TDTGradient, or a tuple of 2, of arrays and None, got ndarray",
        ),
        (
            {"grad_out": (None, np.zeros((2, 5, 3, 2)))},
            ValueError,
            r"grad_out.duration_logits has shape \(2, 5, 3, 2\)",
        ),
        ({"grad_out": (np.zeros((2, 5, 3, 4), "f"), None)}, TypeError, "grad_out.logits has dtype float32; allowed"),
    ],
)
def test_errors(changes, error, message):
    arguments = {
        "logits": np.zeros((2, 5, 3, 4)),
        "duration_logits": np.zeros((2, 5, 3, 3)),
        "labels": [[1, 2], [3, 1]],
        "durations": [0, 1, 2],
    }
    with pytest.raises(error, match=message):
        fsl.tdt_loss(**arguments | changes)


def test_gradients_must_not_overwrite_the_other_argument():
    room = np.zeros((2, 5, 3, 7))
    logits, of_durations = room[..., :4], room[..., 4:]
    fsl.tdt_loss(logits, of_durations, [[1, 2], [3, 1]], durations=[0, 1, 2], grad_out=(logits, of_durations))
    assert room[0, 0, 0].any()
    four = np.zeros((2, 5, 3, 4))
    with pytest.raises(ValueError, match=r"grad_out.logits shares memory with duration_logits"):
        fsl.tdt_loss(np.ones_like(four), four, [[1, 2], [3, 1]], durations=[0, 1, 2, 3], grad_out=(four, None))
