"""The recurrent layers: gradients by central differences, padding, PyTorch as the peer."""

import math

import numpy as np
import pytest

from fastseqloss.recurrent import GRU, LSTM, Adam, Embedding, Linear, clip_grad_norm

LAYERS = [GRU, LSTM]
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


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, *LENGTHS])
@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_gradients_are_central_differences(kind, lengths, reverse):
    rng = np.random.default_rng(0)
    layer = kind(3, 4, reverse=reverse, rng=rng, dtype=np.float64)
    assert_gradients(layer, rng.standard_normal((3, 5, 3)), lengths)


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
    np.testing.assert_array_equal(
        back.forward(x, [4])[:, :4], ahead.forward(x[:, 3::-1], [4])[:, ::-1]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_parameters(dtype):
    layers = [GRU(2, 3, dtype=dtype), LSTM(2, 3, dtype=dtype), Linear(2, 3, dtype=dtype)]
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
        (np.ones((2, 3)), None, ValueError, r"x has shape \(2, 3\), expected \(B, T, 2\)"),
        (np.ones((2, 3, 5)), None, ValueError, r"x has shape \(2, 3, 5\), expected \(B, T, 2\)"),
        (np.ones((2, 3, 2)), [3], ValueError, r"lengths has shape \(1,\), expected \(2,\)"),
        (np.ones((2, 3, 2)), [1, 4], ValueError, r"lengths\[1\] is 4, expected 0 to 3"),
        (np.ones((2, 3, 2)), [-1, 4], ValueError, r"lengths\[0\] is -1, expected 0 to 3"),
        (np.ones((2, 3, 2)), [1.0, 2.0], TypeError, "lengths has dtype float64, expected integers"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_errors(kind, x, lengths, error, message):
    with pytest.raises(error, match=message):
        kind(2, 3).forward(x, lengths)


def test_linear_error():
    with pytest.raises(ValueError, match=r"x has shape \(4,\), expected \(..., 2\)"):
        Linear(2, 3).forward(np.ones(4))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([1, 2], ValueError, r"tokens has shape \(2,\), expected \(B, T\)"),
        ([[1.0, 2.0]], TypeError, "tokens has dtype float64, expected integers"),
        ([[1, 0], [2, 3]], ValueError, r"tokens\[1, 1\] is 3, expected 0 to 2"),
        ([[-1, 0]], ValueError, r"tokens\[0, 0\] is -1, expected 0 to 2"),
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
    with pytest.raises(ValueError, match="gradient of 'bad' is not finite"):
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


@pytest.mark.peers
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_agrees_with_torch(kind, reverse):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    batch, steps, size, hidden = 4, 12, 5, 6
    lengths = np.array([12, 7, 1, 9])
    layer = kind(size, hidden, reverse=reverse, rng=rng, dtype=np.float64)
    x = rng.standard_normal((batch, steps, size))
    grad = rng.standard_normal((batch, steps, hidden))

    # The second direction of a packed bidirectional layer reads the valid part in reverse.
    peer_kind = getattr(torch.nn, kind.__name__)
    peer = peer_kind(size, hidden, batch_first=True, bidirectional=True).double()
    suffix = "_l0_reverse" if reverse else "_l0"
    names = {
        "input_weight": "weight_ih",
        "input_bias": "bias_ih",
        "recurrent_weight": "weight_hh",
        "recurrent_bias": "bias_hh",
    }
    with torch.no_grad():
        for name, theirs in names.items():
            getattr(peer, theirs + suffix).copy_(torch.from_numpy(layer.parameters[name].T.copy()))
    x_peer = torch.from_numpy(x).requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x_peer, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
    )
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(peer(packed)[0], batch_first=True)
    theirs = padded[..., hidden:] if reverse else padded[..., :hidden]

    ours = layer.forward(x, lengths)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    theirs.backward(torch.from_numpy(grad))
    gradients, grad_input = layer.backward(grad)
    np.testing.assert_allclose(grad_input, x_peer.grad.numpy(), rtol=1e-10, atol=1e-12)
    for name, peer_name in names.items():
        expected = getattr(peer, peer_name + suffix).grad.numpy().T
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.peers
def test_adam_agrees_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = rng.standard_normal(7)
    ours, theirs = start.copy(), torch.tensor(start, requires_grad=True)
    adam = Adam({"w": ours}, learning_rate=0.03, betas=(0.8, 0.95), epsilon=1e-6)
    peer = torch.optim.Adam([theirs], lr=0.03, betas=(0.8, 0.95), eps=1e-6)
    for _ in range(50):
        gradient = rng.standard_normal(7) * 10 ** rng.uniform(-3, 3)
        adam.step({"w": gradient})
        theirs.grad = torch.tensor(gradient)
        peer.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.peers
def test_clip_grad_norm_agrees_with_torch():
    torch = pytest.importorskip("torch")
    gradients = {str(size): np.random.default_rng(size).standard_normal(size) for size in (3, 5)}
    theirs = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 5)]
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert clip_grad_norm(gradients, 0.7) == pytest.approx(float(norm), rel=1e-6)
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-5)
