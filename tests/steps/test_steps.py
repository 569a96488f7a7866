"""Properties of all per-step losses: correct for any input, memory layout, neighbours and number of threads."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import HALF, assert_same_loss
from fastseqloss.steps.registry import LOSSES, SHARES, SIGNS
from reference import ctc as reference
from reference import steps as reference_steps
from reference.steps import CLASSIFICATION, ELEMENTWISE, NAMES
from step_cases import (
    BY_PRECISION,
    FLOATS,
    INTEGERS,
    LAYOUTS,
    REDUCTIONS,
    TARGETS,
    THREADS,
    Capsule,
    Case,
    Foreign,
    assert_gradient,
    assert_same,
    assert_within,
    cases,
    random_case,
    strided,
)
from thoroughness import examples, spread, thorough

every_loss = pytest.mark.parametrize("name", NAMES)


# ---- values -------------------------------------------------------------------------------


@every_loss
@examples(0.7)
@given(data=st.data())
def test_matches_reference(level, name, data):
    case = data.draw(cases(name))
    loss, gradient = case.run(num_threads=data.draw(st.sampled_from(THREADS)))
    case.check(loss, gradient)
    assert_same_loss(case.run(return_grad=False), loss)


@given(case=cases(dtypes=HALF, scales=(0.1, 1.0, 10.0, 1e4)))
@examples(1.7)
def test_half_precision(level, case):
    loss, gradient = case.run()
    case.check(loss, gradient)
    assert_same_loss(case.run(return_grad=False), loss)


@given(case=cases(dtypes=(np.float64,), scales=(0.1, 1.0, 10.0), smallest=1, smooth=True))
def test_gradient_is_the_central_difference(case):
    _, gradient = case.run()

    def total(scores):
        return float(np.sum(Case(case.name, scores, *arguments).run(return_grad=False)))

    arguments = case.targets, case.lengths, case.mask, case.options, case.reducing
    case.scores[np.isnan(case.scores)] = 0.5
    if case.options.get("input") == "probs":
        np.minimum(case.scores, 1 - 1e-5, out=case.scores)  # above 1, by rounding, counts as 1
    numeric = reference.central_differences(total, case.scores, 1e-6)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-5, atol=1e-5)


@every_loss
@pytest.mark.parametrize("dtype", FLOATS)
def test_larger_batches(level, name, dtype):
    """Many short rows, features or numbers at once, among them holes."""
    rng = np.random.default_rng(len(name))
    for shape in ((7, 45, 37), (3, 130, 6), (5, 300, 1)):
        case = random_case(rng, name, shape, dtype=dtype, holes=0.2, target_dtype=_default(name))
        case.check(*case.run(num_threads=2))


def _default(name):
    return {SHARES: np.float32, SIGNS: np.int8}.get(TARGETS[name], np.float32 if name == "mse_loss" else None)


# ---- accuracy -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name if name == "mse_loss" else thorough(name) for name in NAMES])
def test_ten_million_steps_in_float32(name):
    """100 sequences of the same 100000 steps: their mean is that of one."""
    shape = (1, 100_000, 2) if name in CLASSIFICATION else (1, 100_000)
    block = random_case(np.random.default_rng(1), name, shape, dtype=np.float32, lengths=False)
    if name == "multiclass_hinge_loss":  # its oracle goes step by step
        block = random_case(np.random.default_rng(1), name, (1, 10_000, 2), dtype=np.float32, lengths=False)
    repeats = 10_000_000 // block.scores.shape[1]
    scores, targets = (np.broadcast_to(a, (repeats, *a.shape[1:])) for a in (block.scores, block.targets))
    expected, _ = reference_steps.reduce(block.steps, "mean")
    for reduction, factor in (("sum", 10_000_000), ("sequence_mean", 1)):
        loss = getattr(fsl, name)(scores, targets, reduction=reduction)
        assert loss == pytest.approx(float(expected) * factor, rel=1e-6)


@pytest.mark.parametrize("name", ["mse_loss", thorough("softmax_cross_entropy"), thorough("hinge_loss")])
def test_one_sequence_of_a_million_steps(level, name):
    shape = (1, 10_000, 3) if name in CLASSIFICATION else (1, 10_000)
    block = random_case(np.random.default_rng(2), name, shape, dtype=np.float32, lengths=False)
    tiled = (np.tile(a, (1, 100) + (1,) * (a.ndim - 2)) for a in (block.scores, block.targets))
    case = Case(name, *tiled, reducing={"reduction": "sum"})
    expected, slope = reference_steps.reduce(block.steps, "sum")
    loss, gradient = case.run()
    assert loss == pytest.approx(float(expected) * 100, rel=1e-6)
    np.testing.assert_allclose(
        gradient.reshape(100, *slope.shape), np.tile(slope, (100, 1, 1, 1)[: slope.ndim + 1]), atol=2e-7
    )


# ---- independence -------------------------------------------------------------------------


PAIRS = [pytest.param(each.values, marks=each.marks) for each in spread(NAMES, [np.float32, np.float64], every=2)]


@pytest.fixture(scope="module", params=PAIRS)
def large(request):
    """Work enough for several threads, in sequences of very different length."""
    name, dtype = request.param
    shape = (37, 700, 31) if name in CLASSIFICATION else (37, 12_000)
    rng = np.random.default_rng(5)
    lengths = [0, 1, shape[1], *rng.integers(0, shape[1], 34)]
    return random_case(rng, name, shape, dtype=dtype, lengths=lengths, holes=0.1, target_dtype=_default(name))


def test_threads_do_not_change_a_bit(level, large):
    for reduction, threads in (("none", 2), ("mean", 4)):
        case = large.reduced(reduction=reduction)
        assert_same(case.run(num_threads=threads), case.run(num_threads=1))
    assert_same([case.run(num_threads=4, return_grad=False)], [case.run(num_threads=1, return_grad=False)])


def test_batch_mates_do_not_change_a_bit(level, large):
    by_step, gradient = large.reduced(reduction="none").run(num_threads=2)
    by_sequence = large.reduced(reduction="per_sequence").run(num_threads=2, return_grad=False)
    for b in (0, 1, 2, 5, 36):
        case = large.sequence(b)
        alone, slope = case.reduced(reduction="none").run(num_threads=1)
        assert_same([alone[0], slope[0]], [by_step[b], gradient[b]])
        assert_same([case.reduced(reduction="sum").run(return_grad=False)], [by_sequence[b]])
    order = np.random.default_rng(0).permutation(len(by_sequence))
    mixed = (a[order] for a in (large.scores, large.targets, large.lengths, large.mask))
    case = Case(large.name, *mixed, large.options)
    assert_same(case.run(num_threads=2), [by_step[order], gradient[order]])
    assert_same([case.reduced(reduction="per_sequence").run(return_grad=False)], [by_sequence[order]])


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_neighbouring_steps_do_not_change_a_bit(level, name, dtype):
    """The position of a step in the batch, and its neighbours, have no effect."""
    rng = np.random.default_rng(3)
    for width in (1, 2, 3, 5, 8, 17, 33, 64, 70) if name in CLASSIFICATION else (1, 3, 70):
        case = random_case(rng, name, (1, 67, width), dtype=dtype, lengths=False)
        loss, gradient = case.run()
        case.mask = rng.random((1, 67)) < 0.5
        masked, slope = case.run()
        assert_same([masked[case.mask], slope[case.mask]], [loss[case.mask], gradient[case.mask]])
        alone = Case(name, case.scores[:, case.mask[0]], case.targets[:, case.mask[0]], options=case.options)
        assert_same(alone.run(), [loss[:, case.mask[0]], gradient[:, case.mask[0]]])


@pytest.mark.parametrize(("name", "dtype"), spread(NAMES, [np.float32, np.float64, np.float16], every=3))
def test_short_sequences_are_independent(level, name, dtype):
    """Sequences so short that several share a piece of work, wherever they are in the batch."""
    rng = np.random.default_rng(4)
    for shape in ((19, 1, 1), (19, 3, 3), (19, 7, 5), (9, 29, 1), (5, 11, 17)):
        case = random_case(rng, name, shape, dtype=dtype, holes=0.1, target_dtype=_default(name))
        for reduction in ("none", "per_sequence"):
            loss, gradient = case.reduced(reduction=reduction).run()
            for b in range(shape[0]):
                alone, slope = case.sequence(b).reduced(reduction=reduction).run()
                assert_same([alone[0], slope[0]], [loss[b], gradient[b]])


# ---- layouts ------------------------------------------------------------------------------


@given(cases(dtypes=FLOATS, scales=(1.0, 10.0)), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.booleans())
def test_layouts(level, case, layout, target_layout, read_only):
    expected = case.run()
    case.scores, case.targets = layout(case.scores), target_layout(case.targets)
    before = case.scores.copy(), case.targets.copy()
    case.scores.flags.writeable = case.targets.flags.writeable = not read_only
    if case.mask is not None:
        case.mask = layout(case.mask)
        case.mask.flags.writeable = not read_only
    assert_same(case.run(), expected)
    assert_same([case.scores, case.targets], before)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_broadcast_arguments(name, dtype):
    """Strides of 0: one step stands for all."""
    case = random_case(np.random.default_rng(0), name, (1, 1, 6), dtype=dtype, lengths=False)
    shape = (3, 7)
    scores = np.broadcast_to(case.scores, (*shape, 6))
    targets = np.broadcast_to(case.targets, shape + case.targets.shape[2:])
    mask = np.broadcast_to(np.array([[True], [False], [True]]), shape)
    expected = Case(name, scores.copy(), targets.copy(), None, mask.copy()).run()
    assert_same(Case(name, scores, targets, None, mask).run(), expected)


@given(
    cases(dtypes=FLOATS, scales=(1.0, 10.0, 1e2)),
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    st.sampled_from(THREADS),
)
def test_grad_out(level, case, layout, out_layout, threads):
    loss, gradient = case.run()
    case.scores = layout(case.scores)
    out = out_layout(np.full_like(gradient, np.nan))
    returned = case.run(grad_out=out, return_grad=False, num_threads=threads)
    assert returned[1] is out
    assert_same(returned, [loss, gradient])
    if out_layout is strided and out.size:
        out[...] = 7
        base = out.base.astype(np.float64)
        assert np.count_nonzero(base == 7) == out.size  # nothing written in between


@given(cases(dtypes=FLOATS), st.sampled_from(LAYOUTS), st.sampled_from(THREADS))
def test_gradient_over_the_input(level, case, layout, threads):
    loss, gradient = case.run()
    case.scores = layout(case.scores)
    returned = case.run(grad_out=case.scores, num_threads=threads)
    assert returned[1] is case.scores
    assert_same(returned, [loss, gradient])


SHARED = [(name, other) for name in NAMES for other in ("targets", "mask", "lengths", "sample_weight")]
SHARED += [(name, "class_weight") for name in CLASSIFICATION]
SHARED += [("softmax_cross_entropy", "distributions")]
SHARED += sorted(
    {(row.function, row.parameter.name) for row in LOSSES.values() if row.parameter and row.parameter.broadcasts}
)


@pytest.mark.parametrize(("name", "other"), SHARED)
def test_grad_out_over_another_argument(name, other):
    """Refused, or right: the gradient may not overwrite what is still to be read."""
    target_dtype = np.float64 if other == "distributions" else None
    case = random_case(np.random.default_rng(0), name, (4, 6, 8), holes=0.2, target_dtype=target_dtype)
    other = "targets" if other == "distributions" else other
    arguments = {"targets": case.targets, "mask": case.mask, "lengths": case.lengths, "sample_weight": np.ones(4)}
    arguments.setdefault(other, np.linspace(0.1, 0.9, 8))
    run, given = getattr(fsl, name), arguments[other]
    expected = run(case.scores, **arguments, return_grad=True)
    for start in (0, 8):  # from the beginning of the gradient, and from inside
        room = np.zeros(case.scores.size + 64)
        view = room.view(given.dtype)[start : start + given.size].reshape(given.shape)
        view[...] = given
        before = room.copy()
        options = arguments | {other: view, "grad_out": room[: case.scores.size].reshape(4, 6, 8)}
        if not accepts(run, case.scores, options):
            np.testing.assert_array_equal(room, before)
            continue
        view[...] = given
        assert_same(run(case.scores, **options), expected)


def accepts(run, scores, options):
    try:
        run(scores, **options)
    except ValueError as error:
        return "grad_out" not in str(error)
    return True


@every_loss
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_foreign_byte_order(name, dtype):
    case = random_case(np.random.default_rng(0), name, (3, 5, 4), dtype=dtype)
    expected = case.run()
    case.scores = case.scores.astype(case.scores.dtype.newbyteorder())
    case.targets = case.targets.astype(case.targets.dtype.newbyteorder())
    loss, gradient = case.run()
    assert gradient.dtype == case.scores.dtype
    assert_same([loss, gradient], expected)


@every_loss
def test_foreign_arrays(name):
    case = random_case(
        np.random.default_rng(0), name, (3, 5, 4), dtype=np.float32, holes=0.3, target_dtype=_default(name)
    )
    case.scores[~case.counts], weight = 0, np.array([1.0, 0.5, 2.0])
    case.reducing = {"reduction": "mean", "sample_weight": weight}
    expected = case.run()
    arguments = case.scores, case.targets, case.lengths
    for kind in (Foreign, Capsule, memoryview):
        options = {"mask": kind(case.mask), "sample_weight": kind(weight)}
        loss = getattr(fsl, name)(*map(kind, arguments), **options, return_grad=True)
        assert_same(loss, expected)
    options = {"mask": case.mask.tolist(), "sample_weight": weight.tolist()}
    targets = np.where(np.isnan(case.targets), 1, case.targets) if case.targets.dtype.kind == "f" else case.targets
    loss = getattr(fsl, name)(case.scores.tolist(), targets.tolist(), case.lengths.tolist(), **options)
    assert loss == pytest.approx(expected[0], rel=1e-6)


class Subclass(np.ndarray):
    pass


@every_loss
def test_subclass_of_an_array(name):
    case = random_case(np.random.default_rng(0), name, (3, 5, 4))
    expected = case.run()
    case.scores, case.targets = case.scores.view(Subclass), case.targets.view(Subclass)
    loss, gradient = case.run()
    assert_same([loss, gradient], expected)
    assert type(loss) is type(gradient) is np.ndarray


# ---- arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_class_targets_of_any_integer_type(name, dtype):
    case = random_case(np.random.default_rng(0), name, (3, 9, 5), holes=0.3)
    expected = case.run()
    case.targets = case.targets.astype(dtype)
    case.targets[~case.counts] = np.iinfo(dtype).max
    case.lengths = case.lengths.astype(dtype)
    assert_same(case.run(), expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool), *map(np.dtype, FLOATS)])
def test_number_targets_of_any_real_type(level, name, dtype):
    for shape in ((3, 9), (3, 9, 5)):
        targets = np.random.default_rng(0).integers(0, 2, shape)
        if TARGETS[name] == SIGNS:
            targets = np.ones(shape, int) if dtype.kind in "ub" else 2 * targets - 1
        scores = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        expected = Case(name, scores, targets.astype(np.float64)).run()
        found = Case(name, scores, targets.astype(dtype)).run()
        if name in BY_PRECISION:  # of float32, if that has all numbers of both dtypes
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=2e-7)
        else:
            assert_same(found, expected)


@every_loss
def test_lengths_and_mask_say_the_same(level, name):
    """Lengths are a mask of leading steps; given both, a step must count by both."""
    rng = np.random.default_rng(0)
    case = random_case(rng, name, (5, 9, 4), lengths=False)
    lengths, holes = rng.integers(0, 9, 5, endpoint=True), rng.random((5, 9)) < 0.7
    leading = np.arange(9) < lengths[:, None]
    for n, mask, same in ((lengths, None, leading), (lengths, holes, leading & holes), (None, holes, holes)):
        case.lengths, case.mask = n, mask
        expected = case.run()
        case.lengths, case.mask = None, same
        assert_same(case.run(), expected)


@every_loss
def test_full_lengths_and_mask_are_the_default(name):
    case = random_case(np.random.default_rng(0), name, (3, 5, 4), lengths=False)
    expected = case.run()
    case.lengths, case.mask = np.full(3, 5), np.ones((3, 5), bool)
    assert_same(case.run(), expected)


@every_loss
@pytest.mark.parametrize("shape", [(0, 5, 4), (0, 0, 4), (3, 0, 4), (0, 4), (0, 2, 3, 4), (2, 0, 3, 4)])
def test_nothing_there(level, name, shape):
    targets = np.zeros(shape[:-1], int) if name in CLASSIFICATION else np.zeros(shape)
    case = Case(name, np.zeros(shape, np.float32), targets)
    out = np.zeros(shape, np.float32)
    for case.reducing in each_reduction():
        loss, gradient = case.run()
        case.check(loss, gradient)
        assert not np.any(loss)
        assert case.run(grad_out=out)[1] is out


def each_reduction(**more):
    return [{"reduction": reduction} | more for reduction in REDUCTIONS]


@every_loss
@pytest.mark.parametrize("how", ["lengths", "mask", "ignore_index", "sample_weight"])
def test_no_step_counts(level, name, how):
    for dtype in FLOATS:
        case = random_case(np.random.default_rng(0), name, (3, 4, 5), dtype=dtype, lengths=False)
        weight = {"sample_weight": np.zeros(3)} if how == "sample_weight" else {}
        case.scores[: 1 if weight else 3] = np.nan  # a sequence without weight does not count, whatever its loss
        if how == "mask":
            case.mask = np.zeros((3, 4), bool)
        elif how == "ignore_index" and name in CLASSIFICATION:
            case.targets[...] = -100
        elif not weight:
            case.lengths = np.zeros(3, int)
        for case.reducing in each_reduction(**weight):
            loss, gradient = case.run()
            assert not np.any(loss)
            assert not gradient.any()


@every_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_sequence_of_weight_zero_does_not_count_whatever_its_loss(level, name, poison):
    case = random_case(np.random.default_rng(0), name, (3, 4, 5), lengths=False)
    scores = case.scores.copy()
    for case.reducing in each_reduction(sample_weight=np.array([2.0, 0.0, 0.5])):
        case.scores[1] = scores[1]
        expected = case.run()
        case.scores[1] = poison
        assert_same(case.run(), expected)
        assert not expected[1][1].any()


@every_loss
@pytest.mark.parametrize("dtype", FLOATS)
def test_not_a_number_hits_its_own_step_only(level, name, dtype):
    for width in (1, 2, 7, 64, 300):
        case = random_case(np.random.default_rng(0), name, (2, 19, width), dtype=dtype, lengths=False)
        loss, gradient = case.run()
        by_sequence = case.reduced(reduction="per_sequence").run(return_grad=False)
        case.scores[1, 4] = np.nan
        poisoned, slope = case.run()
        others = np.ones((2, 19), bool)
        others[1, 4] = False
        assert_same([poisoned[others], slope[others]], [loss[others], gradient[others]])
        assert case.reduced(reduction="per_sequence").run(return_grad=False)[0] == by_sequence[0]
        if width > 1 or name != "multiclass_hinge_loss":  # where one class is never wrong
            assert np.isnan(poisoned[1, 4])
        if name in ("softmax_cross_entropy", "binary_cross_entropy", "mse_loss"):
            assert np.isnan(slope[1, 4].astype(float)).all()


# ---- memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype", "wide"), spread(NAMES, HALF, [False, True], every=2))
def test_half_precision_is_converted_by_row(name, dtype, wide):
    """There is never a float32 copy of the whole array."""
    shape = (4, 250, 1000) if wide else (40, 2500, 10)
    scores = np.zeros(shape, dtype)
    scores[...] = np.linspace(0.1, 2, shape[-1])
    targets = np.ones(shape[:-1], np.int64) if name in CLASSIFICATION else np.ones(shape, dtype)
    out = np.empty_like(scores)
    getattr(fsl, name)(scores[:1], targets[:1], grad_out=out[:1])  # imports take memory, too
    for options in ({}, {"grad_out": out}, {"grad_out": scores}):
        peak = peak_memory(getattr(fsl, name), scores, targets, **options)
        assert peak < (scores.size if wide else scores.size * 2), options  # of 4 bytes for each in float32


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_gradient_takes_the_memory_of_a_copy(name):
    """Scores whose classes are apart are copied; the gradient is written over the copy, and not over the scores."""
    scores = np.random.default_rng(0).uniform(0.1, 1, (40, 100, 50)).swapaxes(1, 2)
    targets = np.ones(scores.shape[:-1], np.int64)
    kept, loss = scores.copy(), getattr(fsl, name)
    expected = loss(kept, targets, return_grad=True)
    assert peak_memory(loss, scores, targets, return_grad=True) < 1.2 * scores.nbytes
    assert_same(loss(scores, targets, return_grad=True), expected)
    assert_same([scores], [kept])


def peak_memory(function, *arguments, **options):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        function(*arguments, **options)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@every_loss
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_gradient_is_the_only_large_allocation(name, dtype):
    shape = (4, 100, 1000)
    scores = np.zeros(shape, dtype)
    targets = np.ones(shape[:-1], np.int64) if name in CLASSIFICATION else np.ones(shape, dtype)
    peak = peak_memory(getattr(fsl, name), scores, targets, return_grad=True)
    assert peak < scores.nbytes * 1.25


def test_the_checks_of_these_tests_can_fail():
    """The reference's own answer passes, and the smallest wrong one does not."""
    case = random_case(np.random.default_rng(0), "softmax_cross_entropy", (3, 5, 4), dtype=np.float32)
    loss, gradient = reference_steps.reduce(case.steps, "none")
    loss, gradient = loss.astype(float), gradient.astype(np.float32)
    case.check(loss, gradient)
    with pytest.raises(AssertionError, match="loss"):
        case.check(loss * (1 + 5e-6), gradient)
    with pytest.raises(AssertionError, match="gradient"):
        case.check(loss, gradient + np.float32(1e-6) * (gradient != 0))
    with pytest.raises(AssertionError):
        assert_within(np.nan, 1.0, 1.0, "loss")
    with pytest.raises(AssertionError):
        assert_gradient(np.zeros(1, np.float16), np.full(1, 1e9), 0.0)
