"""The module `CRF`: pytorch-crf's cases restated, comparisons with that package, differences from it, errors."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import FLOATS, assert_close, compiling, logits  # noqa: E402

REDUCTIONS = ("none", "sum", "mean", "token_mean")
B, T, K = 3, 6, 4
LENGTHS = [6, 1, 4]


def model_of(batch_first=True, k=K, dtype=torch.float64, kind=fst.CRF):
    torch.manual_seed(0)
    return kind(k, batch_first=batch_first).to(dtype)


def batch(batch_first=True, dtype=torch.float64):
    """Return emissions, tags and a mask, batch first or second."""
    x = logits((B, T, K), dtype=dtype)
    tags = torch.from_numpy(np.random.default_rng(1).integers(0, K, (B, T)))
    mask = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    if batch_first:
        return x, tags, mask
    return x.detach().transpose(0, 1).contiguous().requires_grad_(), tags.T.contiguous(), mask.T.contiguous()


def score_of(model, emissions, tags):
    """Return the score of a path through the emissions [T, K] of one sequence, term by term."""
    a, z, transitions = (p.detach() for p in (model.start_transitions, model.end_transitions, model.transitions))
    total = a[tags[0]] + z[tags[-1]] + sum(emissions[t, tag] for t, tag in enumerate(tags))
    return float(total + sum(transitions[i, j] for i, j in itertools.pairwise(tags)))


def enumerated(model, emissions, tags):
    """Return the log-likelihood of tags and the best path, of all paths through one sequence."""
    paths = list(itertools.product(range(model.num_tags), repeat=len(emissions)))
    scores = np.array([score_of(model, emissions, path) for path in paths])
    normaliser = np.logaddexp.reduce(scores)
    return score_of(model, emissions, tags) - normaliser, list(paths[int(scores.argmax())])


# ---- the cases of pytorch-crf ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5])
def test_new(k):
    model = fst.CRF(k)
    assert model.num_tags == k
    assert model.batch_first is False
    assert fst.CRF(k, True).batch_first is fst.CRF(k, batch_first=True).batch_first is True
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "start_transitions": (k,),
        "end_transitions": (k,),
        "transitions": (k, k),
    }
    assert all(p.dtype == torch.float32 and p.abs().max() <= 0.1 for p in model.parameters())
    before = [p.clone() for p in model.parameters()]
    model.reset_parameters()
    assert not any(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert repr(model) == f"CRF(num_tags={k})"


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_by_enumeration(batch_first, masked):
    model = model_of(batch_first)
    x, tags, mask = batch(batch_first)
    rows, steps = (x, tags) if batch_first else (x.transpose(0, 1), tags.T)
    lengths = LENGTHS if masked else [T] * B
    wanted = [enumerated(model, rows[b, :n].detach(), steps[b, :n].tolist()) for b, n in enumerate(lengths)]
    likelihoods = np.array([likelihood for likelihood, _ in wanted])
    given = (mask,) if masked else ()
    reduced = {
        "none": likelihoods,
        "sum": likelihoods.sum(),
        "mean": likelihoods.mean(),
        "token_mean": likelihoods.sum() / sum(lengths),
    }
    for reduction, expected in reduced.items():
        assert_close(model(x, tags, *given, reduction=reduction), torch.as_tensor(expected))
    assert_close(model(x, tags, *given), torch.as_tensor(likelihoods.sum()))
    assert model.decode(x, *given) == [path for _, path in wanted]


def test_batch_first_is_a_matter_of_order():
    x, tags, mask = batch()
    first, second = model_of(True), model_of(False)
    for reduction in REDUCTIONS:
        assert torch.equal(
            first(x, tags, mask, reduction), second(x.transpose(0, 1), tags.T, mask.T, reduction=reduction)
        )
    assert first.decode(x, mask) == second.decode(x.transpose(0, 1), mask.T)


def test_batch_is_its_sequences():
    model = model_of()
    x, tags, mask = batch()
    alone = [model(x[b : b + 1, :n], tags[b : b + 1, :n]) for b, n in enumerate(LENGTHS)]
    assert_close(model(x, tags, mask), torch.stack(alone).sum())
    assert model.decode(x, mask) == [model.decode(x[b : b + 1, :n])[0] for b, n in enumerate(LENGTHS)]


# ---- the package -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, None])
def test_beside_pytorch_crf(batch_first, reduction, kind):
    peer = pytest.importorskip("torchcrf", reason="the extra `peers` installs it")
    theirs, ours = model_of(batch_first, kind=peer.CRF), model_of(batch_first)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert repr(ours) == repr(theirs)
    x, tags, mask = batch(batch_first)
    given = {} if kind is None else {"mask": mask.to(kind)}
    weight = torch.tensor([1.0, -0.5, 2.0]).double() if reduction == "none" else torch.tensor(0.3).double()
    results = []
    for model in (ours, theirs):
        used = {"mask": mask.bool() if given else torch.ones_like(mask)} if model is theirs else given
        value = model(x, tags, **used, reduction=reduction)
        parameters = [x, model.transitions, model.start_transitions, model.end_transitions]
        results.append([value, *torch.autograd.grad((value * weight).sum(), parameters)])
        assert model.decode(x, **used) == ours.decode(x, **given)
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        assert_close(a, b)


def test_trains_as_pytorch_crf():
    peer = pytest.importorskip("torchcrf", reason="the extra `peers` installs it")
    x, tags, mask = batch()
    curves, paths = [], []
    for model in (model_of(), model_of(kind=peer.CRF)):
        torch.manual_seed(1)
        head = torch.nn.Linear(K, K).double()
        optimizer = torch.optim.SGD([*head.parameters(), *model.parameters()], lr=0.1)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = -model(head(x.detach()), tags, mask, reduction="token_mean")
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
        paths.append(model.decode(head(x.detach()), mask))
    np.testing.assert_allclose(*curves, rtol=1e-9)
    assert curves[0][-1] < curves[0][0]
    assert paths[0] == paths[1]


# ---- differences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_masks_with_holes(batch_first):
    """Steps outside the mask, with tags of -100, are left out, as if they had been cut out."""
    x, tags, mask = batch(True)
    mask[0, 1] = mask[2, 0] = False
    given = x, tags.masked_fill(~mask, -100), mask
    model = model_of(batch_first)
    alone = [model_of(True)(x[b : b + 1, mask[b]], tags[b : b + 1, mask[b]]) for b in range(B)]
    ordered = given if batch_first else tuple(z.transpose(0, 1) for z in given)
    assert_close(model(*ordered, reduction="none"), torch.stack(alone))
    paths = [model_of(True).decode(x[b : b + 1, mask[b]])[0] for b in range(B)]
    assert model.decode(ordered[0], ordered[2]) == paths
    (gradient,) = torch.autograd.grad(model(*ordered), x)
    assert not gradient[~mask].any()


def test_sequences_without_steps():
    model = model_of()
    x, tags, mask = batch()
    mask[1] = False
    values = model(x, tags, mask, reduction="none")
    assert values[1] == 0
    assert model.decode(x, mask)[1] == []
    mask[:] = False
    assert not any(bool(model(x, tags, mask, reduction=r).any()) for r in REDUCTIONS)
    assert model.decode(x, mask) == [[]] * B


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_is_never_read(batch_first):
    model = model_of(batch_first)
    x, tags, mask = batch(batch_first)
    expected, paths = model(x, tags, mask, reduction="none"), model.decode(x, mask)
    noisy = x.detach().masked_fill(~mask[..., None], math.nan).requires_grad_()
    assert torch.equal(model(noisy, tags.masked_fill(~mask, 99), mask, reduction="none"), expected)
    assert model.decode(noisy, mask) == paths
    for reduction in REDUCTIONS:
        (gradient,) = torch.autograd.grad(model(noisy, tags, mask, reduction=reduction).sum(), noisy)
        assert not gradient[~mask].any()
        assert gradient.isfinite().all()


def test_forbidden_transitions():
    """Tags of probability 0 have log-likelihood -inf and gradient 0; no path is a path of -1."""
    model = model_of()
    x, tags, _ = batch()
    with torch.no_grad():
        model.transitions[tags[0, 0], tags[0, 1]] = -math.inf
    values = model(x, tags, reduction="none")
    assert values[0] == -math.inf
    (gradient,) = torch.autograd.grad(values[0], x, retain_graph=True)
    assert not gradient.any()
    with torch.no_grad():
        model.transitions.fill_(-math.inf)
    assert model.decode(x) == [[-1] * T] * B


def test_smallest_of_equal_tags():
    model = model_of()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert model.decode(torch.zeros(2, 3, K).double()) == [[0, 0, 0]] * 2


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
def test_dtypes(dtype, own):
    model = model_of(dtype=own)
    x, tags, mask = batch(dtype=dtype)
    value = model(x, tags, mask)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    gradients = torch.autograd.grad(value, [x, *model.parameters()])
    assert [g.dtype for g in gradients] == [dtype, own, own, own]
    wide = copy.deepcopy(model).double()
    assert_close(value, wide(x.detach().double(), tags, mask), 1e-5)
    assert model.decode(x, mask) == wide.decode(x.detach().double(), mask)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_of_parameters_are_not_rounded(reduction):
    """Parameters of float64 have gradients of float64 beside emissions of float32."""
    model = model_of(dtype=torch.float64)
    x, tags, mask = batch(dtype=torch.float32)
    found = torch.autograd.grad(model(x, tags, mask, reduction=reduction).sum(), [*model.parameters()])
    wide = torch.autograd.grad(model(x.double(), tags, mask, reduction=reduction).sum(), [*model.parameters()])
    for a, b in zip(found, wide, strict=True):
        assert_close(a, b, 1e-13)


# ---- errors ------------------------------------------------------------------------------------------------------


def changed(tensor, where, value):
    tensor = tensor.clone()
    tensor[where] = value
    return tensor


X, TAGS, MASK = batch()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("error", "message", "given"), [  # with positions of a batch that comes first
    (ValueError, "tags[0, 5] is 4; allowed: 0 to 3", {"tags": changed(TAGS, (0, 5), 4)}),
    (ValueError, "tags[2, 1] is -1; allowed: 0 to 3", {"tags": changed(TAGS, (2, 1), -1)}),
    (ValueError, "mask[2, 3] is 2; allowed: 0 and 1", {"mask": changed(MASK.int(), (2, 3), 2)}),
    (TypeError, "mask has dtype float64; allowed: bool", {"mask": MASK.double()}),
    (TypeError, "tags has dtype float64; allowed: any integer", {"tags": TAGS.double()}),
    (TypeError, "tags must be a tensor, got list", {"tags": TAGS.tolist()}),
    (TypeError, "mask must be a tensor, got ndarray", {"mask": MASK.numpy()}),
    (TypeError, "tags is on device 'meta'", {"tags": TAGS.to("meta")}),
    (TypeError, "emissions is on device 'meta'", {"emissions": X.detach().to("meta")}),
    (TypeError, "emissions has dtype torch.int64", {"emissions": X.detach().long()}),
    (TypeError, "emissions must be a tensor, got ndarray", {"emissions": X.detach().numpy()}),
])  # fmt: skip
def test_errors(batch_first, error, message, given):
    """Messages name positions in the order of the caller."""
    arguments = {"emissions": X, "tags": TAGS, "mask": MASK} | given
    if not batch_first:
        arguments = {
            name: value if isinstance(value, list) else value.swapaxes(0, 1) for name, value in arguments.items()
        }
        if "[" in message:
            name, i, j, rest = message.replace("[", " ").replace(", ", " ", 1).replace("]", " ", 1).split(" ", 3)
            message = f"{name}[{j}, {i}]{rest}"
    model = model_of(batch_first)
    with pytest.raises(error) as caught:
        model(**arguments)
    assert str(caught.value).startswith(message)
    if "tags" not in given:
        del arguments["tags"]
        with pytest.raises(error) as caught:
            model.decode(**arguments)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("message", "given"), [
    (r"emissions has shape \(6, 4\); allowed: \[T, B, 4\]", {"emissions": X[0]}),
    (r"emissions has shape \(6, 3, 5\); allowed: \[T, B, 4\]", {"emissions": torch.zeros(T, B, 5)}),
    (r"tags has shape \(3, 6\); allowed: \(6, 3\), as in emissions", {"tags": TAGS}),
    (r"mask has shape \(3, 6\); allowed: \(6, 3\), as in emissions", {"mask": MASK}),
    ("reduction is 'batch'; allowed: 'none', 'sum', 'mean', 'token_mean'", {"reduction": "batch"}),
])  # fmt: skip
def test_errors_of_shapes(message, given):
    with pytest.raises(ValueError, match=message):
        model_of(False)(**{"emissions": X.transpose(0, 1), "tags": TAGS.T} | given)


def test_errors_of_missing_tensors():
    for arguments, message in (((X, None), "tags must be a tensor, got NoneType"), ((None, TAGS), "emissions must be")):
        with pytest.raises(TypeError, match=message):
            model_of()(*arguments)


@pytest.mark.parametrize("name", ["transitions", "start_transitions", "end_transitions"])
def test_errors_of_parameters(name):
    for error, message, change in (
        (ValueError, rf"^{name}\[.*\] is nan; allowed: finite, or -inf to forbid", lambda p: p.fill_(math.nan)),
        (TypeError, f"^{name} is on device 'meta'", lambda p: p.to("meta")),
    ):
        model = model_of()
        setattr(model, name, torch.nn.Parameter(change(getattr(model, name).detach())))
        for call in (lambda model=model: model(X, TAGS), lambda model=model: model.decode(X)):
            with pytest.raises(error, match=message):
                call()


@pytest.mark.parametrize(("error", "message", "arguments"), [
    (ValueError, "num_tags is 0; allowed: 1 or more", (0,)),
    (ValueError, "num_tags is -2; allowed: 1 or more", (-2,)),
    (TypeError, "num_tags must be an integer, got float", (2.0,)),
    (TypeError, "batch_first must be a bool, got int", (2, 1)),
])  # fmt: skip
def test_errors_of_the_constructor(error, message, arguments):
    with pytest.raises(error, match=message):
        fst.CRF(*arguments)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_traces():
    model = model_of()
    for call in (lambda x: model(x, TAGS), lambda x: torch.tensor(model.decode(x))):
        with pytest.raises(RuntimeError, match=r"cannot be traced by torch\.jit"):
            torch.jit.trace(call, (X,))


def test_copies():
    model = model_of()
    expected = model(X, TAGS, MASK)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(X, TAGS, MASK), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch.func
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction):
    model = model_of()

    def likelihood(x, *parameters):
        return torch.func.functional_call(
            model, dict(zip(names, parameters, strict=True)), (x, TAGS, MASK), {"reduction": reduction}
        )

    names, parameters = zip(*model.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(likelihood, [X, *parameters], check_forward_ad=True)


@compiling
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_compiled(reduction, batch_first):
    """One graph, with the results of eager mode; `decode` runs between two graphs."""
    model = model_of(batch_first)
    x, tags, mask = batch(batch_first)
    results = []
    torch.compiler.reset()
    for call in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        value = call(x, tags, mask.int(), reduction=reduction)
        results.append([value, *torch.autograd.grad((value * 3).sum(), [x, *model.parameters()])])
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected)
    compiled = torch.compile(lambda x: model.decode(x * 2, mask), backend="eager")
    assert compiled(x) == model.decode(x * 2, mask)
