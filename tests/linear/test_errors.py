"""Invalid arguments of linear losses raise an exception with position, value and allowed values; nothing is written."""

import re

import numpy as np
import pytest

import fastseqloss as fsl
from linear_cases import OF_LAYER

B, T, D, V = 2, 4, 3, 5
RNG = np.random.default_rng(0)
LAYER = {"hidden": RNG.normal(size=(B, T, D)), "weight": RNG.normal(size=(V, D)), "bias": RNG.normal(size=V)}
VALID = {
    "linear_cross_entropy": LAYER | {"targets": RNG.integers(0, V, (B, T)), "lengths": np.array([4, 3])},
    "linear_ctc_loss": LAYER
    | {"labels": np.array([[1, 2], [3, 0]]), "logit_lengths": np.array([4, 3]), "label_lengths": np.array([2, 1])},
}
every_loss = pytest.mark.parametrize("name", VALID)


def assert_raises(name, kind, said, **wrong):
    """The function raises, says so, and writes nothing."""
    arguments = VALID[name] | wrong
    out = fsl.LinearGradient(*(np.full_like(LAYER[argument], 7) for argument in OF_LAYER))
    arguments.setdefault("grad_out", out)
    with pytest.raises(kind, match=re.escape(said)):
        getattr(fsl, name)(**arguments)
    assert all(np.all(array == 7) for array in out)


@every_loss
def test_the_valid_call_is_valid(name):
    assert np.isfinite(getattr(fsl, name)(**VALID[name]))


SHAPES = {
    "linear_cross_entropy": [((), "[..., D]")],
    "linear_ctc_loss": [(shape, "[B, T, D], or [T, D] for one sequence") for shape in [(), (3,), (1, 2, 3, 3)]],
}


@pytest.mark.parametrize(("name", "shape", "allowed"), [(name, *row) for name, rows in SHAPES.items() for row in rows])
def test_hidden_states_of_a_wrong_shape(name, shape, allowed):
    assert_raises(name, ValueError, f"hidden has shape {shape}; allowed: {allowed}", hidden=np.zeros(shape))


@every_loss
@pytest.mark.parametrize("shape", [(), (V,), (D, V), (V, D, 1), (V, D + 1)])
def test_a_weight_of_a_wrong_shape(name, shape):
    said = f"weight has shape {shape}; allowed: [V, 3], as hidden has shape (2, 4, 3)"
    assert_raises(name, ValueError, said, weight=np.zeros(shape))


@every_loss
def test_a_transposed_weight(name):
    said = "weight has shape (3, 5); allowed: [V, 3], as hidden has shape (2, 4, 3), so pass weight.T"
    assert_raises(name, ValueError, said, weight=LAYER["weight"].T)


@every_loss
def test_parameters(name):
    assert_raises(name, ValueError, "weight has shape (0, 3): no classes; allowed: 1 or more", weight=np.zeros((0, D)))
    said = "bias has shape (4,); allowed: (5,), a number for each class"
    assert_raises(name, ValueError, said, bias=np.zeros(4))
    assert_raises(name, ValueError, "bias has shape (5, 1); allowed: (5,)", bias=np.zeros((5, 1)))


@every_loss
@pytest.mark.parametrize("argument", OF_LAYER)
@pytest.mark.parametrize("dtype", [np.int64, np.complex128, bool, "U3", object])
def test_dtypes(name, argument, dtype):
    wrong = {argument: LAYER[argument].astype(dtype)}
    said = f"{argument} has dtype {np.dtype(dtype)}; allowed: float16, bfloat16, float32 or float64"
    assert_raises(name, TypeError, said, **wrong)


@every_loss
@pytest.mark.parametrize("option", ["scale", "softcap"])
@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, 1e-31, 1e31])
def test_factors_out_of_range(name, option, value):
    assert_raises(name, ValueError, f"{option} is {value}; allowed: from 1e-30 to 1e+30", **{option: value})


@every_loss
@pytest.mark.parametrize("option", ["scale", "softcap"])
@pytest.mark.parametrize("value", ["1", True, [1.0, 2.0], 1j])
def test_factors_of_a_wrong_type(name, option, value):
    assert_raises(name, TypeError, f"{option} must be a number, got {type(value).__name__}", **{option: value})


@every_loss
def test_chunks(name):
    assert_raises(name, ValueError, "chunk is 0; allowed: 1 or more", chunk=0)
    assert_raises(name, ValueError, "chunk is -3; allowed: 1 or more", chunk=-3)
    assert_raises(name, TypeError, "chunk must be an integer, got float", chunk=2.0)
    assert_raises(name, TypeError, "chunk must be an integer, got bool", chunk=True)


@every_loss
def test_threads(name):
    assert_raises(name, ValueError, "num_threads is 0; allowed: 1 or more", num_threads=0)
    assert_raises(name, TypeError, "num_threads must be an integer, got float", num_threads=1.5)


@every_loss
def test_reductions(name):
    assert_raises(name, ValueError, "reduction is 'median'; allowed: 'none', ", reduction="median")
    assert_raises(name, ValueError, "normalizer needs reduction='sum', got reduction='mean'", normalizer=2)
    assert_raises(name, ValueError, "sample_weight[1] is -1.0; allowed: finite, 0 or more", sample_weight=[1, -1])


def gradient(**changed):
    return fsl.LinearGradient(**{name: np.full_like(LAYER[name], 7) for name in OF_LAYER} | changed)


@every_loss
def test_arrays_for_gradients(name):
    one = "a LinearGradient, or a tuple of 3, of arrays and None"
    assert_raises(name, TypeError, f"grad_out must be {one}, got ndarray", grad_out=np.zeros((B, T, D)))
    assert_raises(name, ValueError, f"grad_out has 2 arrays; allowed: {one}", grad_out=(None, None))
    said = "grad_out.weight has shape (3, 5); allowed: (5, 3)"
    assert_raises(name, ValueError, said, grad_out=gradient(weight=np.zeros((D, V))))
    said = "grad_out.bias has dtype float32; allowed: float64"
    assert_raises(name, TypeError, said, grad_out=gradient(bias=np.zeros(V, np.float32)))
    said = "grad_out.hidden must be a NumPy array, got list"
    assert_raises(name, TypeError, said, grad_out=gradient(hidden=LAYER["hidden"].tolist()))
    fixed = np.zeros((V, D))
    fixed.flags.writeable = False
    assert_raises(name, ValueError, "grad_out.weight is read-only", grad_out=gradient(weight=fixed))


@every_loss
def test_shared_memory_of_gradients(name):
    hidden = LAYER["hidden"].copy()
    inside = hidden.reshape(-1)[: V * D].reshape(V, D)
    said = "grad_out.weight shares memory with hidden; allowed: weight itself or apart"
    assert_raises(name, ValueError, said, hidden=hidden, grad_out=gradient(weight=inside))
    room = np.zeros(V * D)
    said = "grad_out.bias shares memory with grad_out.weight; allowed: arrays apart"
    assert_raises(name, ValueError, said, grad_out=gradient(weight=room.reshape(V, D), bias=room[:V]))
    larger = np.zeros((V + 1, D))
    said = "grad_out.weight overlaps the input; allowed: the input itself or apart"
    assert_raises(name, ValueError, said, weight=larger[:-1], grad_out=gradient(weight=larger[1:]))


def test_targets():
    name = "linear_cross_entropy"
    bad = VALID[name]["targets"].copy()
    bad[1, 1] = V
    assert_raises(name, ValueError, "targets[1, 1] is 5; allowed: 0 to 4, or -100, which is ignore_index", targets=bad)
    said = "targets has shape (2,); allowed: (2, 4), a class for each step"
    assert_raises(name, ValueError, said, targets=bad[:, 0])
    assert_raises(name, ValueError, "lengths[0] is 5; allowed: 0 to 4", lengths=[5, 4])
    assert_raises(name, ValueError, "mask has shape (4,); allowed: (2, 4)", mask=np.ones(T, bool))
    assert_raises(name, ValueError, "class_weight has shape (4,); allowed: (5,)", class_weight=np.ones(4))
    assert_raises(name, ValueError, "label_smoothing is 2.0; allowed: from 0 to 1", label_smoothing=2.0)
    assert_raises(name, ValueError, "z_loss is -1.0; allowed: finite, 0 or more", z_loss=-1.0)


def test_labels():
    name = "linear_ctc_loss"
    said = "labels[0, 1] is 5; allowed: 0 to 4, except 0, which is the blank"
    assert_raises(name, ValueError, said, labels=np.array([[1, 5], [3, 0]]))
    said = "labels has 3 sequences; allowed: 2, as in hidden"
    assert_raises(name, ValueError, said, labels=[[1, 2], [3], [4]], label_lengths=None)
    assert_raises(name, ValueError, "logit_lengths[0] is 5; allowed: 0 to 4", logit_lengths=[5, 4])
    assert_raises(name, ValueError, "blank is 5; allowed: -5 to 4", blank=5)
    said = "logit_lengths[1] is 0; allowed: 1 or more for its labels; infeasible sequences: 1"
    assert_raises(name, ValueError, said, logit_lengths=[4, 0], infeasible="raise")
    assert_raises(name, ValueError, "infeasible is 'no'; allowed: 'inf', 'zero', 'raise'", infeasible="no")
