"""Gradients of a linear layer: into given arrays, without those that are not wanted, in any memory layout."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
import linear_cases
from linear_cases import NAMES, OF_LAYER
from step_cases import LAYOUTS, Capsule, Foreign, assert_same, strided

every_loss = pytest.mark.parametrize("name", NAMES)
DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def problem(name, dtype=np.float64, **options):
    rng = np.random.default_rng(0)
    if name == "linear_ctc_loss":
        return linear_cases.ctc(rng, (4, 7, 5), 9, 3, given={"dtype": dtype}, chunk=9, **options)
    return linear_cases.cross_entropy(
        rng, (4, 6, 5), 9, lengths=True, mask=True, ignored=0.2, given={"dtype": dtype}, chunk=5, **options
    )


def like(case, make=np.empty_like):
    return fsl.LinearGradient(*(make(case.arguments[name]) for name in OF_LAYER))


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_into_arrays(name, dtype):
    case = problem(name, dtype, softcap=3.0)
    expected = case.run()
    out = like(case, lambda array: strided(np.full_like(array, 7)))
    loss, gradients = case.run(grad_out=out, return_grad=False)
    assert all(found is given for found, given in zip(gradients, out, strict=True))
    assert_same([loss, *gradients], [expected[0], *expected[1]])


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(name, dtype):
    """Each argument may hold its own gradient, though the weight is read to the end."""
    case = problem(name, dtype)
    expected = case.run()
    own = {argument: case.arguments[argument].copy() for argument in OF_LAYER}
    loss, gradients = case.changed(**own).run(grad_out=tuple(own.values()))
    assert all(found is own[argument] for found, argument in zip(gradients, OF_LAYER, strict=True))
    assert_same([loss, *gradients], [expected[0], *expected[1]])


@every_loss
@pytest.mark.parametrize("wanted", range(8))
def test_those_that_are_wanted(name, wanted):
    case = problem(name, softcap=2.0)
    loss, every = case.run()
    out = [np.empty_like(case.arguments[argument]) for argument in OF_LAYER]
    out = [array if wanted >> k & 1 else None for k, array in enumerate(out)]
    found, gradients = case.run(grad_out=tuple(out))
    assert found == loss
    assert type(gradients) is fsl.LinearGradient
    for given, gradient, expected in zip(out, gradients, every, strict=True):
        assert gradient is given
        if given is not None:
            np.testing.assert_array_equal(gradient, expected)


@every_loss
def test_without_a_bias(name):
    case = problem(name)
    zero = case.run(bias=np.zeros(9))
    loss, gradients = case.run(bias=None)
    assert gradients.bias is None
    assert_same([loss, *gradients[:2]], [zero[0], *zero[1][:2]])
    out = fsl.LinearGradient(np.empty_like(case.hidden), None, None)
    np.testing.assert_array_equal(case.run(bias=None, grad_out=out)[1].hidden, gradients.hidden)
    with pytest.raises(ValueError, match=r"grad_out\.bias is given, but bias is not; allowed: None"):
        case.run(bias=None, grad_out=(None, None, np.zeros(9)))


@every_loss
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(name, layout):
    """Hidden states and bias of any strides give the same bits, a weight the same numbers but for rounding."""
    case = problem(name)
    expected, slopes = case.run()
    given = {argument: layout(case.arguments[argument]) for argument in ("hidden", "bias")}
    loss, gradients = case.run(**given)
    assert_same([loss, *gradients], [expected, *slopes])
    weight = layout(case.arguments["weight"])
    weight.flags.writeable = False
    case.changed(weight=weight).check(*case.run(weight=weight))


@every_loss
@pytest.mark.parametrize("form", [Foreign, Capsule, np.ndarray.tolist])
def test_other_arrays(name, form):
    case = problem(name)
    case.arguments["hidden"][~case.counts] = 0
    expected, slopes = case.run()
    loss, gradients = case.run(**{argument: form(case.arguments[argument]) for argument in OF_LAYER})
    assert_same([loss, *gradients], [expected, *slopes])


@every_loss
def test_byte_orders(name):
    case = problem(name)
    expected = case.run()
    swapped = {argument: case.arguments[argument].astype(">f8") for argument in OF_LAYER}
    loss, gradients = case.run(**swapped)
    assert_same([loss, *gradients], [expected[0], *expected[1]])
    out = tuple(np.empty_like(array) for array in swapped.values())
    found, _ = case.run(**swapped, grad_out=out)
    assert_same([found, *out], [expected[0], *expected[1]])


@every_loss
def test_half_precision_of_one_argument(name):
    """Each gradient has the dtype of its argument."""
    case = problem(name, np.float32)
    weight = case.arguments["weight"].astype(ml_dtypes.bfloat16)
    loss, gradients = case.run(weight=weight)
    assert [gradient.dtype for gradient in gradients] == [np.float32, ml_dtypes.bfloat16, np.float32]
    expected, slopes = case.run(weight=weight.astype(np.float32))
    assert loss == expected
    np.testing.assert_array_equal(gradients.weight, slopes.weight.astype(ml_dtypes.bfloat16))


def peak_of(call) -> int:
    """Largest number of bytes that a call holds at a time, its result included."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FEW = 600_000  # bytes: indices, a chunk of hidden states, a block of the gradient of the weight, buffers of NumPy
N, D, V, CHUNK = 600, 8, 4000, 100


def large(name, dtype=np.float32):
    rng = np.random.default_rng(0)
    if name == "linear_ctc_loss":
        return linear_cases.ctc(rng, (12, 50, D), V, 5, given={"dtype": dtype}, chunk=CHUNK)
    return linear_cases.cross_entropy(rng, (N, D), V, given={"dtype": dtype}, chunk=CHUNK)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.thorough)])
def test_memory(name, dtype):
    """The logits of one chunk are in memory, and the gradients: a sixth of all logits."""
    case, size = large(name, dtype), np.dtype(dtype).itemsize
    logits = CHUNK * V * size
    gradients = sum(case.arguments[argument].nbytes for argument in OF_LAYER)
    case.run()  # imports of the first call
    assert peak_of(lambda: case.run(return_grad=False)) < logits + FEW
    assert peak_of(case.run) < logits + gradients + FEW
    assert peak_of(lambda: case.run(softcap=30.0)) < 2 * logits + gradients + FEW


@pytest.mark.thorough
@pytest.mark.parametrize(("features", "n_classes"), [(4096, 2100), (8192, 600)])
def test_memory_of_many_features(features, n_classes):
    """Blocks of classes are smaller if there are many features: no more than 8 MiB of products."""
    case = linear_cases.cross_entropy(
        np.random.default_rng(0), (24, features), n_classes, given={"dtype": np.float32}, chunk=8
    )
    case.run()
    gradients = sum(case.arguments[argument].nbytes for argument in OF_LAYER)
    assert peak_of(case.run) < gradients + 2**23 + 8 * 4 * (n_classes + 4 * features) + FEW


@every_loss
def test_memory_of_a_frozen_layer(name):
    case = large(name)
    out = (np.empty_like(case.hidden), None, None)
    case.run()
    assert peak_of(lambda: case.run(grad_out=out)) < CHUNK * V * 4 + FEW


def test_memory_of_half_precision():
    """The weight and its gradient are in float32 beside those in bfloat16; hidden states are converted by chunks."""
    case = large("linear_cross_entropy", ml_dtypes.bfloat16)
    gradients = sum(case.arguments[argument].nbytes for argument in OF_LAYER)
    case.run()
    assert peak_of(case.run) < CHUNK * V * 4 + gradients + 2 * (V * D * 4) + FEW
    assert peak_of(lambda: case.run(return_grad=False)) < CHUNK * V * 4 + V * D * 4 + FEW
