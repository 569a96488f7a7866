"""Wrong arguments of soft-DTW: an exception that says where, what and what is allowed; nothing written."""

import re

import numpy as np
import pytest

import fastseqloss as fsl

B, N, M, D = 3, 6, 5, 2
RNG = np.random.default_rng(0)
VALID = {
    "x": RNG.normal(size=(B, N, D)),
    "y": RNG.normal(size=(B, M, D)),
    "lengths_x": np.array([6, 5, 4]),
    "lengths_y": np.array([5, 5, 3]),
}
COSTS = RNG.normal(size=(B, N, M))


def assert_raises(kind, *said, **wrong):
    """Every entry point that takes the arguments raises, says all of `said` in order, and writes nothing."""
    pattern = "(?s)" + ".*".join(re.escape(str(word)) for word in said)
    arguments = VALID | wrong
    if "grad_out" not in wrong and all(getattr(arguments[k], "dtype", None) == np.float64 for k in "xy"):
        arguments["grad_out"] = fsl.SoftDTWGradient(*(np.full_like(arguments[k], 7) for k in "xy"))
    with pytest.raises(kind, match=pattern):
        fsl.soft_dtw_loss(**arguments)
    if "grad_out" in arguments and "grad_out" not in wrong:
        assert all(np.all(out == 7) for out in arguments["grad_out"])
    arguments.pop("grad_out", None)
    if not {"grad_out", "reduction", "normalizer", "sample_weight", "divergence"} & wrong.keys():
        with pytest.raises(kind, match=pattern):
            fsl.soft_dtw_posteriors(**arguments)
    if not {"grad_out", "x", "y", "divergence"} & wrong.keys():
        out = np.full_like(COSTS, 7)
        rest = {name: value for name, value in arguments.items() if name not in ("x", "y")}
        with pytest.raises(kind, match=pattern):
            fsl.soft_dtw_cost(COSTS, **rest, grad_out=out)
        assert np.all(out == 7)


def test_the_valid_call_is_valid():
    assert np.isfinite(fsl.soft_dtw_loss(**VALID))
    assert np.isfinite(fsl.soft_dtw_cost(COSTS, VALID["lengths_x"], VALID["lengths_y"]))


@pytest.mark.parametrize("shape", [(B, N, D, 1), (), (N,)])
def test_series_of_a_wrong_shape(shape):
    hint = "; a univariate series is x[:, None]" if len(shape) == 1 else ""
    said = f"x has shape {shape}; allowed: [B, N, D], or [N, D] for one series{hint}"
    assert_raises(ValueError, said, x=RNG.normal(size=shape))
    with pytest.raises(ValueError, match=re.escape(f"costs has shape {shape}; allowed: [B, N, M], or [N, M]")):
        fsl.soft_dtw_cost(np.zeros(shape))


def test_series_that_do_not_fit():
    assert_raises(
        ValueError, "x has shape (3, 6, 2) and y (5, 2); allowed: the same number of axes", y=np.zeros((5, 2))
    )
    said = "y has shape (3, 5, 3): 3 features; allowed: 2, as x; a batch of univariate series is [B, N, 1]"
    assert_raises(ValueError, said, y=np.zeros((3, 5, 3)))
    said = "y has shape (1, 5, 2): 1 series; allowed: 3, as x; numpy.broadcast_to repeats a series"
    assert_raises(ValueError, said, y=np.zeros((1, 5, 2)), lengths_y=None)
    assert_raises(ValueError, "x has shape (3, 6, 0): no features; allowed: 1 or more", x=np.zeros((3, 6, 0)))


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("dtype", [int, bool, complex])
def test_series_of_a_wrong_dtype(name, dtype):
    array = np.ones_like(VALID[name]).astype(dtype)
    assert_raises(TypeError, f"{name} has dtype {array.dtype}; allowed: float16", **{name: array})


@pytest.mark.parametrize("name", ["lengths_x", "lengths_y"])
def test_lengths(name):
    longest = N if name == "lengths_x" else M
    for value in (-1, longest + 1):
        wrong = np.array([3, value, 3])
        assert_raises(ValueError, f"{name}[1] is {value}; allowed: 0 to {longest}", **{name: wrong})
    assert_raises(ValueError, f"{name} has shape (2,); allowed: (3,)", **{name: [3, 3]})
    assert_raises(TypeError, f"{name} has dtype float64; allowed: any integer dtype", **{name: [3.0, 3, 3]})


def test_one_empty_series():
    said = (
        "lengths_y[2] is 0 and lengths_x[2] is 4: no path aligns a series with an empty one; allowed: 1 or more, or 0"
    )
    assert_raises(ValueError, said, lengths_y=[5, 5, 0])
    assert_raises(ValueError, "lengths_x[0] is 0 and lengths_y[0] is 5", lengths_x=[0, 5, 4])
    with pytest.raises(ValueError, match=r"lengths_y\[0\] is 0 and lengths_x\[0\] is 6"):
        fsl.soft_dtw_cost(np.zeros((1, 6, 0)))


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (-1.0, ValueError, "gamma is -1.0; allowed: finite, 0 or more"),
        (np.inf, ValueError, "gamma is inf; allowed: finite, 0 or more"),
        (np.nan, ValueError, "gamma is nan; allowed: finite, 0 or more"),
        (1e-301, ValueError, "gamma is 1e-301; allowed: 0, or 1e-300 or more"),
        ("1", TypeError, "gamma must be a number, got str"),
        (True, TypeError, "gamma must be a number, got bool"),
    ],
)
def test_gamma(value, kind, said):
    assert_raises(kind, said, gamma=value)


def test_band():
    assert_raises(ValueError, "band is -1; allowed: 0 or more, or None", band=-1)
    assert_raises(TypeError, "band must be an integer, got float", band=2.0)
    said = (
        "band is 0, but lengths_x[0] is 6 and lengths_y[0] is 5: no path stays within the band; "
        "allowed: 1 or more, the largest difference of lengths"
    )
    assert_raises(ValueError, said, band=0)
    said = "band is 1, but lengths_x[1] is 5 and lengths_y[1] is 2: no path", "allowed: 3 or more"
    assert_raises(ValueError, *said, lengths_y=[5, 2, 3], band=np.int8(1))
    assert np.isfinite(fsl.soft_dtw_loss(**VALID, band=1))
    assert fsl.soft_dtw_loss(**VALID, band=2**70) == fsl.soft_dtw_loss(**VALID)


def test_reductions_weights_flags_and_threads():
    assert_raises(ValueError, "reduction is 'batch_mean'; allowed: 'none'", reduction="batch_mean")
    assert_raises(ValueError, "normalizer needs reduction='sum'", normalizer=2.0)
    assert_raises(ValueError, "sample_weight[1] is nan", sample_weight=[1, np.nan, 1])
    assert_raises(ValueError, "num_threads is 0", num_threads=0)
    assert_raises(TypeError, "divergence must be a bool, got int", divergence=1)
    assert_raises(TypeError, "return_grad must be a bool, got int", return_grad=1, grad_out=None)


def outs(**changes):
    return fsl.SoftDTWGradient(**{k: np.full_like(VALID[k], 7) for k in "xy"} | changes)


@pytest.mark.parametrize(
    ("kind", "said", "out"),
    [
        (TypeError, "grad_out must be a SoftDTWGradient, or a tuple of 2, of arrays and None, got ndarray", VALID["x"]),
        (ValueError, "grad_out has 1 arrays; allowed: a SoftDTWGradient", (VALID["x"],)),
        (ValueError, "grad_out.x has shape (3, 6); allowed: (3, 6, 2)", outs(x=np.zeros((B, N)))),
        (TypeError, "grad_out.y has dtype float32; allowed: float64", outs(y=np.zeros((B, M, D), np.float32))),
        (TypeError, "grad_out.y must be a NumPy array, got float", outs(y=1.0)),
    ],
)
def test_wrong_grad_out(kind, said, out):
    assert_raises(kind, said, grad_out=out)
    if isinstance(out, fsl.SoftDTWGradient):
        assert out.x.shape == (B, N) or np.all(out.x == 7)


def test_read_only_grad_out():
    array = np.zeros_like(VALID["y"])
    array.flags.writeable = False
    assert_raises(ValueError, "grad_out.y is read-only", grad_out=outs(y=array))


def test_gradients_that_share_memory():
    square = RNG.normal(size=(B, 4, D))
    both = {"x": square, "y": square, "lengths_x": None, "lengths_y": None}
    out = np.full_like(square, 7)
    said = "grad_out.y shares memory with grad_out.x; allowed: arrays apart"
    assert_raises(ValueError, said, **both, grad_out=(out, out))
    said = "grad_out.x shares memory with y; allowed: x itself or apart"
    assert_raises(ValueError, said, **both, grad_out=(square, None))
    room = np.zeros(B * N * D + 1)
    room[1:] = VALID["x"].ravel()
    shifted = room[1:].reshape(B, N, D)
    said = "grad_out.x overlaps the input; allowed: the input itself or apart"
    assert_raises(ValueError, said, x=shifted, grad_out=(room[:-1].reshape(B, N, D), None))
    assert np.all(out == 7)


def test_grad_out_of_costs():
    for kind, said, out in (
        (ValueError, "grad_out has shape (3, 5); allowed: (3, 6, 5)", np.zeros((3, 5))),
        (TypeError, "grad_out has dtype float32; allowed: float64", np.zeros(COSTS.shape, np.float32)),
        (TypeError, "grad_out must be a NumPy array, got tuple", (COSTS,)),
    ):
        with pytest.raises(kind, match=re.escape(said)):
            fsl.soft_dtw_cost(COSTS, grad_out=out)
