"""The recurrent layers: gradients by central differences, padding, errors; training."""

import math

import numpy as np
import pytest
from ml_dtypes import bfloat16

from fastseqloss.recurrent import GRU, LSTM, RNN, Adam, Embedding, Linear, clip_grad_norm
from thoroughness import spread

LAYERS = [RNN, GRU, LSTM]
LENGTHS = [[5, 5, 5], [5, 3, 1], [2, 0, 4]]


def central_difference(loss, array, step=1e-6):
    """Return the gradient of `loss()` with respect to `array`, which it reads, entry by entry."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = loss()
        array[index] = kept - step
        gradient[index] = (above - loss()) / (2 * step)
        array[index] = kept
    return gradient


def assert_gradients(layer, x, *arguments):
    """Check every gradient of `layer`, for the loss sum(output * random weights)."""
    weights = np.random.default_rng(1).standard_normal(layer.forward(x, *arguments).shape)

    def loss():
        return float((layer.forward(x, *arguments) * weights).sum())

    gradients, grad_input = layer.backward(weights)
    assert gradients.keys() == layer.parameters.keys()
    for name, parameter in layer.parameters.items():
        expected = central_difference(loss, parameter)
        np.testing.assert_allclose(gradients[name], expected, atol=1e-8, rtol=1e-6, err_msg=name)
    if grad_input is not None:
        np.testing.assert_allclose(grad_input, central_difference(loss, x), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("kind", "lengths", "reverse"), spread(LAYERS, [None, *LENGTHS], [False, True], every=3))
def test_recurrent_gradients_are_central_differences(kind, lengths, reverse):
    rng = np.random.default_rng(0)
    layer = kind(3, 4, reverse=reverse, rng=rng, dtype=np.float64)
    assert_gradients(layer, rng.standard_normal((3, 5, 3)), lengths)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_float32_gradients_are_those_of_float64(kind, reverse):
    """Central differences of float32 are too coarse; those of float64, of the same numbers, are not."""
    rng = np.random.default_rng(0)
    exact = kind(3, 4, reverse=reverse, rng=rng, dtype=np.float64)
    single = kind(3, 4, reverse=reverse)
    for name, parameter in exact.parameters.items():
        single.parameters[name][...] = parameter
        parameter[...] = single.parameters[name]
    x = rng.standard_normal((3, 5, 3)).astype(np.float32)
    weights = rng.standard_normal((3, 5, 4)).astype(np.float32)
    lengths = [5, 3, 1]
    np.testing.assert_allclose(single.forward(x, lengths), exact.forward(x, lengths), rtol=1e-5, atol=1e-6)
    gradients, grad_input = single.backward(weights)
    wide = x.astype(np.float64)

    def loss():
        return float((exact.forward(wide, lengths) * weights).sum())

    assert grad_input.dtype == np.float32
    np.testing.assert_allclose(grad_input, central_difference(loss, wide), rtol=1e-4, atol=1e-5)
    for name, parameter in exact.parameters.items():
        assert gradients[name].dtype == np.float32
        expected = central_difference(loss, parameter)
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_rnn_by_hand():
    rnn = RNN(1, 1, dtype=np.float64)
    values = {"input_weight": 0.5, "input_bias": 0.1, "recurrent_weight": -0.8, "recurrent_bias": 0.2}
    for name, value in values.items():
        rnn.parameters[name][...] = value
    hidden = rnn.forward([[[1.0], [2.0]]])
    first = math.tanh(0.5 + 0.3)
    second = math.tanh(1.0 + 0.3 - 0.8 * first)
    np.testing.assert_allclose(hidden[0, :, 0], [first, second], rtol=1e-15)
    gradients, grad_input = rnn.backward([[[0.0], [1.0]]])
    slope = 1 - second**2
    to_first = -0.8 * slope * (1 - first**2)
    np.testing.assert_allclose(grad_input[0, :, 0], [0.5 * to_first, 0.5 * slope], rtol=1e-14)
    np.testing.assert_allclose(gradients["recurrent_weight"], [[slope * first]], rtol=1e-14)
    np.testing.assert_allclose(gradients["recurrent_bias"], [slope + to_first], rtol=1e-14)


def test_linear_gradients_are_central_differences():
    rng = np.random.default_rng(0)
    assert_gradients(Linear(3, 2, rng=rng, dtype=np.float64), rng.standard_normal((2, 4, 3)))


def test_embedding_gradients_are_central_differences():
    layer = Embedding(4, 3, rng=0, dtype=np.float64)
    assert_gradients(layer, np.array([[0, 3, 3], [1, 1, 7]]), [3, 2])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_padding_is_never_used(kind, reverse):
    rng = np.random.default_rng(0)
    layer = kind(3, 4, reverse=reverse, rng=rng)
    x = rng.standard_normal((3, 6, 3))
    grad = rng.standard_normal((3, 6, 4))
    lengths = np.array([6, 4, 0], dtype=np.int32)
    padding = np.arange(6) >= lengths[:, None]

    results = []
    for filler in (0.0, np.nan, np.inf, 1e300):
        x[padding], grad[padding] = filler, filler
        hidden = layer.forward(x, lengths)
        gradients, grad_input = layer.backward(grad)
        assert not hidden[padding].any()
        assert not grad_input[padding].any()
        results.append([hidden, grad_input, *gradients.values()])
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(actual, expected)

    alone = layer.forward(x[1:2, :4])
    np.testing.assert_allclose(results[0][0][1:2, :4], alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", LAYERS)
def test_reverse_reads_the_valid_part_backwards(kind):
    rng = np.random.default_rng(0)
    ahead, back = kind(3, 4, rng=rng), kind(3, 4, reverse=True)
    back.parameters = ahead.parameters
    x = rng.standard_normal((1, 6, 3))
    np.testing.assert_array_equal(back.forward(x, [4])[:, :4], ahead.forward(x[:, 3::-1], [4])[:, ::-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_parameters(dtype):
    layers = [kind(2, 3, dtype=dtype) for kind in (*LAYERS, Linear)]
    for layer in layers:
        output = layer.forward(np.ones((1, 4, 2), dtype=np.int64))
        gradients, grad_input = layer.backward(np.ones(output.shape))
        assert output.dtype == grad_input.dtype == dtype
        assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(dtype)}
    assert Embedding(3, 2, dtype=dtype).forward([[1]]).dtype == dtype


@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 0, 2)])
@pytest.mark.parametrize("kind", LAYERS)
def test_empty_input(kind, shape):
    layer = kind(2, 3)
    hidden = layer.forward(np.empty(shape))
    assert hidden.shape == (*shape[:2], 3)
    gradients, grad_input = layer.backward(hidden)
    assert grad_input.shape == shape
    assert not any(gradient.any() for gradient in gradients.values())


def test_the_seed_decides_the_weights():
    first, same, other = (GRU(2, 3, rng=seed).parameters["input_weight"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("x", "lengths", "error", "message"),
    [
        (np.ones((2, 3)), None, ValueError, r"x has shape \(2, 3\); allowed: \(B, T, 2\)"),
        (np.ones((2, 3, 5)), None, ValueError, r"x has shape \(2, 3, 5\); allowed: \(B, T, 2\)"),
        (np.ones((2, 3, 2)), [3], ValueError, r"lengths has shape \(1,\); allowed: \(2,\)"),
        (np.ones((2, 3, 2)), [1, 4], ValueError, r"lengths\[1\] is 4; allowed: 0 to 3"),
        (np.ones((2, 3, 2)), [-1, 4], ValueError, r"lengths\[0\] is -1; allowed: 0 to 3"),
        (np.ones((2, 3, 2), complex), None, TypeError, "x has dtype complex128; allowed: real numbers"),
        (np.ones((2, 3, 2)), [1.0, 2.0], TypeError, "lengths has dtype float64; allowed: any integer dtype"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_errors(kind, x, lengths, error, message):
    with pytest.raises(error, match=message):
        kind(2, 3).forward(x, lengths)


@pytest.mark.parametrize("kind", LAYERS)
def test_results_do_not_depend_on_how_the_input_is_stored(kind):
    layer = kind(2, 3, rng=0)
    x = np.random.default_rng(0).integers(-4, 5, (3, 4, 2)).astype(np.float32)
    lengths = [4, 2, 3]
    expected = layer.forward(x, lengths)
    swapped = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    fixed = x.copy()
    fixed.flags.writeable = False
    for same in (swapped, fixed, x[::-1][::-1], x.tolist(), x.astype(">f8"), x.astype(np.int8), x.astype(bfloat16)):
        np.testing.assert_array_equal(layer.forward(same, np.array(lengths, np.uint8)), expected)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 3), {}, ValueError, "input_size is 0; allowed: 1 or more"),
        ((2, -1), {}, ValueError, "hidden_size is -1; allowed: 1 or more"),
        ((2, 3.0), {}, TypeError, "hidden_size must be an integer, got float"),
        ((2, 3), {"dtype": np.float16}, TypeError, "dtype is float16; allowed: float32 or float64"),
        ((2, 3), {"dtype": "real"}, TypeError, "dtype is 'real'; allowed: float32 or float64"),
        ((2, 3), {"rng": -1}, ValueError, "rng is -1; allowed: an integer of 0 or more"),
        ((2, 3), {"rng": "seed"}, TypeError, "rng is 'seed'; allowed: an integer of 0 or more"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_construction_errors(kind, arguments, options, error, message):
    with pytest.raises(error, match=message):
        kind(*arguments, **options)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Linear, (0, 1), "input_size is 0; allowed: 1 or more"),
        (Linear, (1, 0), "output_size is 0; allowed: 1 or more"),
        (Embedding, (0, 1), "count is 0; allowed: 1 or more"),
        (Embedding, (1, 0), "size is 0; allowed: 1 or more"),
    ],
)
def test_construction_errors_of_layers_without_memory(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(*arguments)


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (np.ones((2, 4, 3)), ValueError, r"grad has shape \(2, 4, 3\); allowed: \(2, 3, 3\)"),
        (np.ones((2, 3, 1)), ValueError, r"grad has shape \(2, 3, 1\); allowed: \(2, 3, 3\)"),
        (np.ones((2, 3, 3), complex), TypeError, "grad has dtype complex128; allowed: real numbers"),
    ],
)
@pytest.mark.parametrize("kind", [*LAYERS, Linear, Embedding])
def test_backward_errors(kind, grad, error, message):
    layer, x = kind(2, 3), np.ones((2, 3) if kind is Embedding else (2, 3, 2), int)
    with pytest.raises(RuntimeError, match="backward was called before forward; allowed: after it"):
        layer.backward(grad)
    layer.forward(x)
    with pytest.raises(error, match=message):
        layer.backward(grad)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_failed_forward_leaves_the_last_one(kind):
    layer = kind(2, 3, rng=0)
    hidden = layer.forward(np.ones((2, 4, 2)), [4, 2])
    expected = layer.backward(hidden)
    with pytest.raises(ValueError, match="lengths"):
        layer.forward(np.ones((2, 3, 2)), [4, 2])
    gradients, grad_input = layer.backward(hidden)
    np.testing.assert_array_equal(grad_input, expected[1])
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[0][name])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"bias": np.ones((3, 1), "f")}, ValueError, r"parameters\['bias'\] has shape \(3, 1\); allowed: \(3,\)"),
        ({"bias": [1, 2, 3]}, TypeError, r"parameters\['bias'\] must be a NumPy array, got list"),
        ({"bias": np.ones(3, int)}, TypeError, r"parameters\['bias'\] has dtype int64; allowed: float32 or float64"),
        ({"bias": np.ones(3)}, TypeError, "parameters has dtypes .*'bias': 'float64'.*; allowed: the same for all"),
        ({"slope": np.ones(3)}, ValueError, r"parameters has the names .*'slope'.*; allowed: \['bias', 'weight'\]"),
    ],
)
def test_parameter_errors(changed, error, message):
    layer = Linear(2, 3)
    layer.parameters.update(changed)
    with pytest.raises(error, match=message):
        layer.forward(np.ones(2))


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_that_were_not_transposed_are_an_error(kind):
    layer = kind(2, 3)
    weight = layer.parameters["recurrent_weight"]
    if kind is not RNN:
        layer.parameters["recurrent_weight"] = weight.T
        with pytest.raises(ValueError, match=r"parameters\['recurrent_weight'\] has shape \(\d+, 3\); allowed: \(3, "):
            layer.forward(np.ones((1, 1, 2)))
    else:
        layer.parameters["input_weight"] = layer.parameters["input_weight"].T
        with pytest.raises(ValueError, match=r"parameters\['input_weight'\] has shape \(3, 2\); allowed: \(2, 3\)"):
            layer.forward(np.ones((1, 1, 2)))


def test_linear_error():
    with pytest.raises(ValueError, match=r"x has shape \(4,\); allowed: \(\.\.\., 2\)"):
        Linear(2, 3).forward(np.ones(4))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([1, 2], ValueError, r"tokens has shape \(2,\); allowed: \(B, T\)"),
        ([[1.0, 2.0]], TypeError, "tokens has dtype float64; allowed: any integer dtype"),
        ([[1, 0], [2, 3]], ValueError, r"tokens\[1, 1\] is 3; allowed: 0 to 2"),
        ([[-1, 0]], ValueError, r"tokens\[0, 0\] is -1; allowed: 0 to 2"),
    ],
)
def test_embedding_errors(tokens, error, message):
    with pytest.raises(error, match=message):
        Embedding(3, 2).forward(tokens)


def test_clip_grad_norm_keeps_the_direction():
    gradients = {"a": np.array([[3.0, 0.0]], dtype=np.float32), "b": np.array([-4.0])}
    weight = gradients["a"]
    assert clip_grad_norm(gradients, 10.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(weight, [[3.0, 0.0]])
    assert clip_grad_norm(gradients, 0.5) == pytest.approx(5.0)
    np.testing.assert_allclose(weight, [[0.3, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(gradients["b"], [-0.4])
    assert clip_grad_norm(gradients, 1.0) == pytest.approx(0.5)


def test_clip_grad_norm_of_zero_and_of_float32_squares_too_large_for_float32():
    assert clip_grad_norm({"a": np.zeros(3)}, 1.0) == 0.0
    gradients = {"a": np.full(4, 1e30, dtype=np.float32)}
    assert clip_grad_norm(gradients, 1.0) == pytest.approx(2e30)
    np.testing.assert_allclose(gradients["a"], 0.5, rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_clip_grad_norm_names_a_gradient_that_is_not_finite(wrong):
    gradients = {"good": np.ones(2), "bad": np.array([1.0, wrong])}
    with pytest.raises(ValueError, match=rf"gradients\['bad'\]\[1\] is {wrong}; allowed: finite"):
        clip_grad_norm(gradients, 1.0)
    np.testing.assert_array_equal(gradients["good"], 1.0)


def test_adam_by_hand():
    weight = np.array([1.0])
    adam = Adam({"w": weight}, learning_rate=0.1, betas=(0.5, 0.75), epsilon=0.5)
    adam.step({"w": np.array([2.0])})  # m / (1 - 1/2) = 2, v / (1 - 3/4) = 4
    assert weight[0] == pytest.approx(1.0 - 0.1 * 2.0 / 2.5)
    adam.step({"w": np.array([-1.0])})  # m = 0, v = 3/4 + 1/4
    assert weight[0] == pytest.approx(0.92)
    adam.learning_rate = 0.7
    adam.step({"w": np.array([4.0])})  # m = 2, 1 - 1/8; v = 3/4 + 16/4, 1 - 27/64
    step = 0.7 * (2 / 0.875) / (math.sqrt(4.75 / 0.578125) + 0.5)
    assert weight[0] == pytest.approx(0.92 - step)


def test_adam_names_what_does_not_match():
    adam = Adam({"a": np.ones(1), "b": np.ones(1)})
    with pytest.raises(ValueError, match=r"do not share the names \['b', 'c'\]"):
        adam.step({"a": np.ones(1), "c": np.ones(1)})


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e200, 1e307])
def test_clip_grad_norm_of_what_has_vanished_or_exploded(size):
    gradients = {"a": np.array([3 * size, 0.0]), "b": np.array([[-4 * size]])}
    assert clip_grad_norm(gradients, np.inf) == pytest.approx(5 * size, rel=1e-14)
    assert gradients["b"][0, 0] == -4 * size
    clip_grad_norm(gradients, 0.5 * size)
    np.testing.assert_allclose(gradients["a"], [0.3 * size, 0.0], rtol=1e-14)
    np.testing.assert_allclose(gradients["b"], [[-0.4 * size]], rtol=1e-14)


def test_clip_grad_norm_where_the_norm_is_beyond_float32():
    gradients = {"a": np.full(10_000, 3e38, np.float32)}
    assert clip_grad_norm(gradients, 1.0) == pytest.approx(3e40, rel=1e-6)
    np.testing.assert_allclose(gradients["a"], 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("gradients", "max_norm", "error", "message"),
    [
        ({"a": np.ones(2)}, -1.0, ValueError, "max_norm is -1.0; allowed: finite, 0 or more"),
        ({"a": np.ones(2)}, np.nan, ValueError, "max_norm is nan; allowed"),
        ({"a": np.ones(2)}, "1", TypeError, "max_norm must be a number, got str"),
        ({"a": np.ones(2)}, np.array([1.0, 2.0]), TypeError, "max_norm must be a number, got ndarray"),
        ({"a": np.ones(2)}, np.zeros(0), TypeError, "max_norm must be a number, got ndarray"),
        ({"a": np.ones(2), "b": [1.0]}, 1.0, TypeError, r"gradients\['b'\] must be a NumPy array, got list"),
        ({"a": np.ones(2), "b": np.ones(2, int)}, 1.0, TypeError, r"gradients\['b'\] has dtype int64; allowed: float"),
        ({"a": np.ones(2), "b": np.broadcast_to(1.0, (2,))}, 1.0, ValueError, r"gradients\['b'\] is read-only"),
        (
            {"a": np.ones(2), "b": np.array([[1.0, 2.0], [-np.inf, np.nan]])},
            1.0,
            ValueError,
            r"gradients\['b'\]\[1, 0\] is -inf; allowed: finite",
        ),
    ],
)
def test_clip_grad_norm_errors(gradients, max_norm, error, message):
    with pytest.raises(error, match=message):
        clip_grad_norm(gradients, max_norm)
    np.testing.assert_array_equal(gradients["a"], 1.0)


@pytest.mark.parametrize(
    ("parameters", "options", "error", "message"),
    [
        ({"a": [1.0]}, {}, TypeError, r"parameters\['a'\] must be a NumPy array, got list"),
        ({"a": np.ones(1, int)}, {}, TypeError, r"parameters\['a'\] has dtype int64; allowed: float32 or float64"),
        ({"a": np.broadcast_to(1.0, (2,))}, {}, ValueError, r"parameters\['a'\] is read-only; allowed"),
        ({}, {"learning_rate": -0.1}, ValueError, "learning_rate is -0.1; allowed: finite, 0 or more"),
        ({}, {"betas": 0.9}, ValueError, "betas is 0.9; allowed: two numbers"),
        ({}, {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] is 1.0; allowed: from 0 to below 1"),
        ({}, {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\] is -0.1; allowed: from 0 to below 1"),
        ({}, {"betas": ("0.9", 0.9)}, TypeError, r"betas\[0\] must be a number, got str"),
        ({}, {"epsilon": 0}, ValueError, "epsilon is 0; allowed: finite, above 0"),
    ],
)
def test_adam_errors(parameters, options, error, message):
    with pytest.raises(error, match=message):
        Adam(parameters, **options)


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (np.ones((2, 1)), ValueError, r"gradients\['b'\] has shape \(2, 1\); allowed: \(2,\)"),
        ([1.0, 2.0], TypeError, r"gradients\['b'\] must be a NumPy array, got list"),
    ],
)
def test_adam_changes_nothing_if_a_gradient_does_not_fit(gradient, error, message):
    parameters = {"a": np.ones(1), "b": np.ones(2)}
    adam = Adam(parameters)
    with pytest.raises(error, match=message):
        adam.step({"a": np.ones(1), "b": gradient})
    adam.learning_rate = np.nan
    with pytest.raises(ValueError, match="learning_rate is nan; allowed: finite, 0 or more"):
        adam.step({"a": np.ones(1), "b": np.ones(2)})
    assert adam.steps == 0
    np.testing.assert_array_equal(parameters["a"], 1.0)
