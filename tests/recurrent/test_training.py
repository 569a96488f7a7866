"""Training of parameters of any size: gradients that share memory, Adam, clipping."""

import numpy as np
import pytest

from fastseqloss.recurrent import GRU, LSTM, RNN, Adam, Embedding, Linear, clip_grad_norm
from step_cases import DTYPES


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM, Linear, Embedding])
def test_what_changes_between_forward_and_backward_changes_nothing(kind):
    rng = np.random.default_rng(0)
    layer = kind(4, 3, rng=0, dtype=np.float64)
    x = rng.integers(0, 4, (2, 5)) if kind is Embedding else rng.normal(size=(2, 5, 4))
    lengths = np.array([5, 3])
    given = (x,) if kind is Linear else (x, lengths)
    grad = rng.normal(size=(2, 5, 3))
    kept = grad.copy()
    hidden = layer.forward(*given)
    expected, expected_input = layer.backward(grad)
    hidden = layer.forward(*given)
    x[...], lengths[...], hidden[...] = 1, 1, 7
    for name, parameter in layer.parameters.items():
        parameter += 1
        layer.parameters[name] = parameter.astype(np.float32)
    gradients, grad_input = layer.backward(grad)
    np.testing.assert_array_equal(grad, kept)
    for name, gradient in expected.items():
        np.testing.assert_array_equal(gradients[name], gradient)
    if expected_input is not None:
        np.testing.assert_array_equal(grad_input, expected_input)


def overlapping():
    room = np.ones((4, 6))
    return [(room, room), (room, room[:2]), (room[:3], room[2:]), (room[:, ::2], room[:, 2:4]), (room, room.T)]


@pytest.mark.parametrize("pair", overlapping())
def test_arrays_that_share_memory_are_not_changed_twice(pair):
    arrays = {"b": pair[0], "a": pair[1]}
    kept = pair[0].copy()
    for call in (lambda: clip_grad_norm(arrays, 0.1), lambda: Adam(arrays)):
        with pytest.raises(ValueError, match=r"\['a'\] shares memory with .*\['b'\]"):
            call()
    np.testing.assert_array_equal(pair[0], kept)
    strided = np.lib.stride_tricks.as_strided(np.ones(4), (2, 3), (8, 8))
    for call in (lambda: clip_grad_norm({"a": strided}, 0.1), lambda: Adam({"a": strided})):
        with pytest.raises(ValueError, match=r"\['a'\] has elements that share memory"):
            call()


def test_arrays_side_by_side_are_apart():
    room = np.ones((4, 6))
    apart = {"a": room[:, ::2], "b": room[:, 1::2]}
    assert clip_grad_norm(apart, np.inf) == pytest.approx(np.sqrt(24))
    adam = Adam(apart, 0.5)
    adam.step({"a": np.ones((4, 3)), "b": -np.ones((4, 3))})
    np.testing.assert_allclose(room, [[0.5, 1.5] * 3] * 4, rtol=1e-6)


def test_adam_reads_gradients_before_it_changes_parameters():
    first, second = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    adam, other = (Adam({"a": a, "b": b}, 0.1) for a, b in ((first, second), (first.copy(), second.copy())))
    for _ in range(3):
        other.step({"a": first.copy(), "b": first.copy()})
        adam.step({"a": first, "b": first})
        np.testing.assert_array_equal(second, other.parameters["b"])


@pytest.mark.parametrize("wrong", ["read-only", "shape", "betas", "epsilon", "missing", "matrix", "masked"])
def test_adam_changes_all_or_nothing(wrong):
    first, second = np.ones(2), np.ones((2, 2))
    adam = Adam({"a": first, "b": second}, 0.1)
    gradients = {"a": np.ones(2), "b": np.ones((2, 2))}
    if wrong == "read-only":
        second.flags.writeable = False
    elif wrong == "shape":
        adam.parameters["b"], gradients["b"] = np.ones(3), np.ones(3)
    elif wrong in ("betas", "epsilon"):
        setattr(adam, wrong, -1)
    elif wrong == "missing":
        adam.parameters["c"] = gradients["c"] = np.ones(1)
    else:
        gradients["b"] = second.view(np.matrix) if wrong == "matrix" else np.ma.masked_array(second)
    with pytest.raises(TypeError if wrong in ("matrix", "masked") else ValueError, match=r"allowed|share the names"):
        adam.step(gradients)
    assert adam.steps == 0
    assert np.all(first == 1)
    assert np.all(second == 1)


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_matrices_and_masked_arrays_are_not_arrays(kind):
    odd = np.ones((2, 3), np.float32).view(kind)
    layer = Linear(2, 3)
    layer.parameters["weight"] = odd
    for call in (
        lambda: Adam({"a": odd}),
        lambda: clip_grad_norm({"a": odd}, 1.0),
        lambda: layer.forward(np.ones((1, 2))),
    ):
        with pytest.raises(TypeError, match="allowed: a plain NumPy array"):
            call()


def adam_by_hand(gradients, rate, betas, epsilon):
    """Run Adam from 0 in extended range: sizes as multiples of the largest gradient."""
    mean = square = np.zeros(gradients.shape[1:], np.longdouble)
    parameter = np.zeros(gradients.shape[1:], np.longdouble)
    first, second = map(np.longdouble, betas)
    for k, gradient in enumerate(gradients.astype(np.longdouble), 1):
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient * gradient
        parameter -= rate * (mean / (1 - first**k)) / (np.sqrt(square / (1 - second**k)) + np.longdouble(epsilon))
    return parameter


@pytest.mark.parametrize("epsilon", [1e-8, 1e-50, 1e-300])
@pytest.mark.parametrize(("dtype", "sizes"), [(np.float32, (3e38, 1e20, 1e-30)), (np.float64, (1e308, 1e160, 1e-200))])
def test_adam_with_finite_gradients_of_any_size(dtype, sizes, epsilon):
    """Right in every entry, from the first step on and after steps of ordinary size."""
    if np.finfo(np.longdouble).maxexp <= 1024:
        sizes = tuple(min(size, 1e150) for size in sizes)
    for size in sizes:
        large = np.random.default_rng(0).uniform(-1, 1, (6, 4)) * [size, 1, 1e-3, 0]
        gradients = np.concatenate([np.full((2, 4), [1, 1, -1, 0]), large]).astype(dtype)
        for given in (gradients, gradients[2:]):
            parameter = np.zeros(4, dtype)
            adam = Adam({"p": parameter}, 0.1, epsilon=epsilon)
            for gradient in given:
                adam.step({"p": gradient})
            expected = adam_by_hand(given, 0.1, (0.9, 0.999), epsilon).astype(np.float64)
            np.testing.assert_allclose(parameter, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1e-320, 1e39, 1e308])
@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.999, 0.0), (0.9, np.nextafter(1, 0)), (np.nextafter(1, 0), 0.9)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_makes_no_nan(dtype, rate, betas):
    most = np.finfo(dtype).max
    parameter = np.zeros(5, dtype)
    adam = Adam({"p": parameter}, rate, betas=betas, epsilon=5e-324)
    for sign in (1, 1, 1):
        adam.step({"p": np.array([sign * most, -most, np.finfo(dtype).tiny, 0, 1], dtype)})
        assert not np.isnan(parameter).any()
    adam.steps = 10**9
    adam.step({"p": np.array([most, -most, 0, 0, 1], dtype)})
    assert not np.isnan(parameter).any()


def test_a_float64_gradient_of_a_float32_parameter():
    parameter = np.zeros(2, np.float32)
    adam = Adam({"p": parameter}, 0.1)
    for _ in range(3):
        adam.step({"p": np.array([1e200, 1.0])})
    np.testing.assert_allclose(parameter, -0.3, rtol=1e-5)


def test_clip_grad_norm_of_a_unit_that_float32_does_not_hold():
    for size in (1e-300, 1e300):
        gradients = {"a": np.array([3 * size, 4 * size]), "b": np.zeros(2, np.float32), "c": np.float32([0, 1e-30])}
        norm = clip_grad_norm(gradients, 1e-310)
        assert norm == pytest.approx(5 * size if size > 1 else 1e-30)
        assert not any(np.isnan(gradient).any() for gradient in gradients.values())
        assert not gradients["b"].any()
