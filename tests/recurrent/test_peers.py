"""The recurrent layers and their training against PyTorch in float64, its weights read as the help says."""

import numpy as np
import pytest

from fastseqloss.recurrent import GRU, LSTM, RNN, Adam, Embedding, Linear, clip_grad_norm

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

KINDS = [RNN, GRU, LSTM]
NAMES = {
    "input_weight": "weight_ih_l",
    "input_bias": "bias_ih_l",
    "recurrent_weight": "weight_hh_l",
    "recurrent_bias": "bias_hh_l",
}


def torch_name(name, depth, reverse):
    return f"{NAMES[name]}{depth}" + ("_reverse" if reverse else "")


def layers_of(kind, peer):
    """Layers of ours with the weights of a network of PyTorch: for each depth one, or one of either direction."""
    weights = {name: parameter.detach().numpy() for name, parameter in peer.named_parameters()}
    sizes = [peer.input_size] + [peer.hidden_size * (1 + peer.bidirectional)] * (peer.num_layers - 1)
    directions = [False, True] if peer.bidirectional else [False]
    layers = [[kind(n, peer.hidden_size, reverse=r, dtype=np.float64) for r in directions] for n in sizes]
    for depth, pair in enumerate(layers):
        for layer in pair:
            for name, parameter in layer.parameters.items():
                parameter[...] = weights[torch_name(name, depth, layer.reverse)].T
    return layers


def run(layers, x, lengths, grad):
    """Return output, gradients of the parameters under the names of PyTorch, and that of the input."""
    hidden = x
    for pair in layers:
        hidden = np.concatenate([layer.forward(hidden, lengths) for layer in pair], axis=2)
    gradients, output = {}, hidden
    for depth, pair in reversed(list(enumerate(layers))):
        parts = np.split(grad, len(pair), axis=2)
        grad = 0
        for layer, part in zip(pair, parts, strict=True):
            found, grad_input = layer.backward(part)
            grad = grad + grad_input
            gradients |= {torch_name(name, depth, layer.reverse): a for name, a in found.items()}
    return output, gradients, grad


def run_torch(peer, x, lengths, grad):
    """The same of PyTorch, on packed sequences where there are lengths."""
    leaf = torch.tensor(x, requires_grad=True)
    if lengths is None:
        output = peer(leaf)[0]
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(leaf, torch.tensor(lengths), True, enforce_sorted=False)
        output = torch.nn.utils.rnn.pad_packed_sequence(peer(packed)[0], True, total_length=x.shape[1])[0]
    output.backward(torch.tensor(grad))
    gradients = {name: parameter.grad.numpy().T for name, parameter in peer.named_parameters()}
    return output.detach().numpy(), gradients, leaf.grad.numpy()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("lengths", [None, [12, 7, 1, 9], [1, 3, 3, 2]])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_with_the_weights_of_torch(kind, lengths, depth, bidirectional):
    torch.manual_seed(0)
    peer = getattr(torch.nn, kind.__name__)(5, 6, depth, batch_first=True, bidirectional=bidirectional).double()
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(4, 12, 5)), rng.normal(size=(4, 12, 6 * (1 + bidirectional)))
    ours = run(layers_of(kind, peer), x, lengths, grad)
    theirs = run_torch(peer, x, lengths, grad)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-10, atol=1e-12)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        np.testing.assert_allclose(gradient, theirs[1][name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_linear():
    peer = torch.nn.Linear(3, 2).double()
    layer = Linear(3, 2, dtype=np.float64)
    layer.parameters["weight"][...] = peer.weight.detach().numpy().T
    layer.parameters["bias"][...] = peer.bias.detach().numpy()
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 2))
    leaf = torch.tensor(x, requires_grad=True)
    theirs = peer(leaf)
    theirs.backward(torch.tensor(grad))
    np.testing.assert_allclose(layer.forward(x), theirs.detach().numpy(), rtol=1e-14, atol=1e-15)
    gradients, grad_input = layer.backward(grad)
    np.testing.assert_allclose(grad_input, leaf.grad.numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradients["weight"], peer.weight.grad.numpy().T, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradients["bias"], peer.bias.grad.numpy(), rtol=1e-13, atol=1e-15)


def test_embedding():
    peer = torch.nn.Embedding(5, 3).double()
    layer = Embedding(5, 3, dtype=np.float64)
    layer.parameters["weight"][...] = peer.weight.detach().numpy()
    tokens, grad = np.array([[0, 4, 4], [2, 2, 4]]), np.random.default_rng(0).normal(size=(2, 3, 3))
    theirs = peer(torch.tensor(tokens))
    theirs.backward(torch.tensor(grad))
    np.testing.assert_array_equal(layer.forward(tokens), theirs.detach().numpy())
    np.testing.assert_allclose(layer.backward(grad)[0]["weight"], peer.weight.grad.numpy(), rtol=1e-14, atol=1e-15)


def test_adam():
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


def test_clip_grad_norm():
    gradients = {str(size): np.random.default_rng(size).standard_normal(size) for size in (3, 5)}
    theirs = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 5)]
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert clip_grad_norm(gradients, 0.7) == pytest.approx(float(norm), rel=1e-6)
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-5)
