"""Losses of the table as functions of tensors: values, gradients and errors of the NumPy functions."""

from functools import partial

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from adapter_cases import (  # noqa: E402
    BY_TARGETS,
    arguments,
    assert_described,
    batch_of_one,
    differentiable,
    every_loss,
    every_loss_by_targets,
    every_reduction,
    every_way,
    in_turn,
    numpy_answer,
    reducing,
    variants,
    with_distributions,
)
from fastseqloss._adapters.table import LOSSES  # noqa: E402
from fastseqloss.linear import chunks  # noqa: E402
from thoroughness import spread  # noqa: E402
from torch_cases import FLOATS  # noqa: E402

ONCE = "can be differentiated once, not twice"


def tensors(row, given, dtype=None, names=None) -> dict:
    """Scores that require grad, and the other arguments as tensors."""
    made = {name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in given.items()}  # fmt: skip
    for name in row.scores if names is None else names:
        if name in made:
            made[name] = made[name].to(dtype or made[name].dtype).requires_grad_()
    return made


def gradients(loss, given, slope=None) -> dict:
    """Gradients of a loss by the arguments that require grad."""
    scores = {name: x for name, x in given.items() if isinstance(x, torch.Tensor) and x.requires_grad}
    slope = torch.ones_like(loss) if slope is None else slope
    return dict(zip(scores, torch.autograd.grad(loss, [*scores.values()], slope), strict=True))


def check(found: dict, expected: dict, tolerance: float = 1e-14) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        ours, theirs = gradient.double().numpy(), np.asarray(expected[name], np.float64)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


@every_reduction
def test_as_numpy(row, reduction):
    function = getattr(fst, row.name)
    for given in variants(row):
        made = tensors(row, given)
        loss = function(**made, **reducing(row, reduction))
        value, expected = numpy_answer(row, {**given, **_detached(row, made)}, **reducing(row, reduction))
        np.testing.assert_array_equal(loss.detach().numpy(), value)
        expected.pop("targets", None)
        check(gradients(loss, made), expected)
        with torch.no_grad():
            assert torch.equal(function(**made, **reducing(row, reduction)), loss.detach())
        slope = torch.linspace(-1, 2, max(loss.numel(), 1), dtype=torch.float64).reshape(loss.shape)
        if loss.ndim and not row.shares_scores:
            for name, gradient in gradients(function(**made, **reducing(row, reduction)), made, slope).items():
                ahead = slope[None] if reduction == "step_mean" else slope
                check({name: gradient}, {name: _spread(ahead, expected[name])})


def _detached(row, made: dict) -> dict:
    return {name: made[name].detach().numpy() for name in row.scores if name in made}


def _spread(slope, gradient):
    return gradient * slope.numpy().reshape(tuple(slope.shape) + (1,) * (gradient.ndim - slope.ndim))


@in_turn("dtype", lambda *_: FLOATS)
def test_dtypes(row, dtype):
    """Half precision: computed in float32, and rounded once."""
    made = tensors(row, arguments(row), dtype)
    loss = getattr(fst, row.name)(**made).sum()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wide = {name: made[name].detach().to(loss.dtype).numpy() for name in row.scores if name in made}
    value, expected = numpy_answer(row, arguments(row) | wide)
    np.testing.assert_allclose(loss.item(), np.sum(value), rtol=2e-7 if loss.dtype == torch.float32 else 1e-15)
    for name, gradient in gradients(loss, made).items():
        assert gradient.dtype == dtype
        assert torch.equal(gradient, torch.from_numpy(np.asarray(expected[name])).to(dtype))


@every_way
def test_some_scores_alone(row, reduction):
    """Scores without `requires_grad`, such as a frozen layer, change no gradient of the others."""
    function, given = getattr(fst, row.name), arguments(row)
    made = tensors(row, given)
    loss = function(**made, **reducing(row, reduction))
    slope = torch.linspace(-1, 2, max(loss.numel(), 1), dtype=torch.float64).reshape(loss.shape)
    expected = gradients(loss, made, slope)
    for name in expected:
        alone = tensors(row, given, names=[name])
        for call in (function, torch.compile(function, backend="eager")) if name == row.scores[-1] else (function,):
            found = gradients(call(**alone, **reducing(row, reduction)), alone, slope)
            check(found, {name: expected[name]}, 1e-13)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", ["hidden", "weight", "bias"])
def test_products_of_frozen_layers(monkeypatch, reduction, name):
    """Gradients of the layer that are not wanted are not computed."""
    computed = []
    differentiate = chunks._Products.differentiate

    def counted(products, chunk):
        of = products.gradients
        computed.append([n for n in of.__slots__[:3] if getattr(of, n).values is not None])
        differentiate(products, chunk)

    monkeypatch.setattr(chunks._Products, "differentiate", counted)
    row = LOSSES["linear_cross_entropy"]
    made = tensors(row, arguments(row), names=[name])
    gradients(fst.linear_cross_entropy(**made, reduction=reduction), made)
    assert computed
    assert all(names == [name] for names in computed)


@every_way
def test_gradcheck(row, reduction):
    made = tensors(row, differentiable(row))
    names = [name for name in row.scores if name in made]

    def call(*scores):
        return getattr(fst, row.name)(**made | dict(zip(names, scores, strict=True)), **reducing(row, reduction))

    assert torch.autograd.gradcheck(call, [made[name] for name in names], check_forward_ad=True)


@every_loss_by_targets
@pytest.mark.parametrize("names", [("targets",), None])
def test_gradients_by_targets(row, names):
    given = with_distributions(row, arguments(row))
    names = names or (*row.scores, "targets")
    for reduction in row.reductions:
        made = tensors(row, given, names=names)
        loss = getattr(fst, row.name)(**made, reduction=reduction)
        value, expected = numpy_answer(row, given, reduction=reduction)
        np.testing.assert_array_equal(loss.detach().numpy(), value)
        check(gradients(loss, made), {name: expected[name] for name in names})
    inputs = [made[name] for name in names]

    def call(*scores):
        return getattr(fst, row.name)(**made | dict(zip(names, scores, strict=True)), reduction="none")

    smooth = {"targets": (0.1 + 0.8 * torch.rand(made["targets"].shape, dtype=torch.float64)).requires_grad_()}
    made = made | smooth
    inputs = [made[name] for name in names]
    assert torch.autograd.gradcheck(call, inputs, check_forward_ad=True)
    loss = call(*inputs).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match=ONCE):
        first[-1].sum().backward()


@pytest.mark.parametrize(("row", "dtype"), spread(BY_TARGETS.values(), FLOATS, every=4))
def test_dtypes_of_targets(row, dtype):
    made = tensors(row, with_distributions(row, arguments(row)), dtype, names=("targets",))
    loss = getattr(fst, row.name)(**made)
    assert loss.dtype == torch.float64
    assert gradients(loss, made)["targets"].dtype == dtype


@every_loss
def test_second_derivatives(row):
    made = tensors(row, arguments(row))
    scores = [made[name] for name in row.scores if name in made]
    first = torch.autograd.grad(getattr(fst, row.name)(**made).sum(), scores, create_graph=True)
    with pytest.raises(RuntimeError, match=ONCE):
        sum(gradient.sum() for gradient in first).backward()


@every_loss
def test_errors_name_the_argument(row):
    function, given = getattr(fst, row.name), tensors(row, arguments(row))
    for name in row.scores:
        if name in given:
            with pytest.raises(TypeError, match=f"{name} must be a tensor, got ndarray"):
                function(**given | {name: given[name].detach().numpy()})
            with pytest.raises(TypeError, match=rf"{name} has dtype torch\.int64; allowed: torch\.float32"):
                function(**given | {name: given[name].long()})
    for name in row.arrays:
        if row.by_targets and name == "targets":
            continue
        for value in (torch.ones(2, requires_grad=True), [1, torch.ones((), requires_grad=True)]):
            with pytest.raises(TypeError, match=rf"{name}(\[1\])? requires grad, and this loss has no gradient of it"):
                function(**given | {name: value})
    with pytest.raises(TypeError, match=f"^{row.name} has no argument 'nonsense'"):
        function(**given, nonsense=1)
    missing = next(name for name in given if name in row.required)
    with pytest.raises(TypeError, match=f"{row.name}: missing a required argument: '{missing}'"):
        function(**{name: value for name, value in given.items() if name != missing})
    with pytest.raises(TypeError, match=f"{row.name}: multiple values for argument '{missing}'"):
        function(given[missing], **given)
    with pytest.raises(TypeError, match=f"{row.name}: too many positional arguments"):
        function(*range(30))
    for option, value in (("reduction", "x"), ("normalizer", -1.0), ("num_threads", 0)):
        if option in row.parameters:
            with pytest.raises(ValueError, match=option):
                function(**given | reducing(row, "sum") | {option: value})
    if "sample_weight" in row.parameters:
        with pytest.raises(ValueError, match="sample_weight has shape"):
            function(**given, sample_weight=torch.ones(7))


def numbers_of(row) -> list[str]:
    """Names of the options that are numbers other than integers."""
    return [name for name, parameter in row.parameters.items()
            if "float" in parameter.annotation and name not in row.arrays]  # fmt: skip


def summed(row, **options) -> dict:
    """Arguments of a loss for its sum, with options; a coefficient of the divergence needs another policy."""
    given = tensors(row, arguments(row)) | reducing(row, "sum") | options
    if "kl_coef" in options:
        given["ref_log_probs"] = torch.full(given[row.scores[0]].shape[:2], -1.0, dtype=torch.float64)
    return given


def inside(name: str) -> float:
    """A number that an option of this name may be."""
    return 1.5 if name in ("power", "dual_clip") else 0.5


@every_loss
def test_options_have_no_gradient(row):
    function = getattr(fst, row.name)
    assert numbers_of(row) or "reduction" not in row.parameters
    for name in numbers_of(row):
        number = torch.tensor(inside(name), dtype=torch.float64, requires_grad=True)
        for value in (number, (number, number)) if name == "clip" else (number,):
            changed = summed(row, **{name: value})
            with pytest.raises(TypeError, match=rf"^{name}(\[0\])? requires grad, and this loss has no gradient of it"):
                function(**changed)
            with torch.no_grad():
                assert torch.equal(function(**changed), function(**summed(row, **{name: inside(name)})))


@every_loss
def test_options_are_copied(row):
    """A change of an option after the call does not affect later backward passes."""
    function = getattr(fst, row.name)
    for name in numbers_of(row):
        number = torch.tensor(inside(name), dtype=torch.float64)
        for value in (number, number.numpy()):
            given = summed(row, **{name: value})
            loss = function(**given).sum()
            first = {key: gradient.clone() for key, gradient in _kept(loss, given).items()}
            number.sub_(0.25)
            check(_kept(loss, given), first)
            number.add_(0.25)


def _kept(loss, given) -> dict:
    scores = {name: x for name, x in given.items() if isinstance(x, torch.Tensor) and x.requires_grad}
    return dict(zip(scores, torch.autograd.grad(loss, [*scores.values()], retain_graph=True), strict=True))


@every_loss
def test_masks_and_lengths(row):
    """Masks are also integers of 0 and 1, and lengths of a batch of one arrays without axes."""
    function = getattr(fst, row.name)
    for given in variants(row):
        mask = given.get("mask")
        if mask is None:
            continue
        expected = function(**tensors(row, given))
        for dtype in (torch.uint8, torch.int8, torch.int32, torch.int64):
            changed = tensors(row, given) | {"mask": torch.from_numpy(mask).to(dtype)}
            assert torch.equal(function(**changed), expected)
            with pytest.raises(ValueError, match=r"mask\[0, [\d, ]+\] is 2; allowed: 0 and 1"):
                function(**changed | {"mask": 2 * torch.from_numpy(mask).to(dtype)})
    one = batch_of_one(row)
    expected = function(**tensors(row, one))
    for name in row.per_sequence & one.keys():
        for value in (torch.tensor(one[name][0]), int(one[name][0])):
            assert torch.equal(function(**tensors(row, one) | {name: value}), expected)


@every_loss
def test_signature_and_docstring(row):
    assert_described(row, getattr(fst, row.name))


@every_loss
def test_constants_that_change_afterwards(row):
    """A later backward pass computes with the arguments of the call."""
    made = tensors(row, arguments(row)) | ({"clip": [0.1, 0.3]} if "clip" in row.parameters else {})
    made |= {name: list(made[name]) for name in row.static if name in made}
    loss = getattr(fst, row.name)(**made).sum()
    scores = [made[name] for name in row.scores if name in made]
    right = torch.autograd.grad(loss, scores, retain_graph=True)
    for name, value in made.items():
        if isinstance(value, list):
            value[:] = [7] * len(value)
        elif (
            isinstance(value, torch.Tensor)
            and name not in row.scores
            and not (
                name == "targets" and value.is_floating_point()  # of the size of the scores: not copied, but watched
            )
        ):
            value.zero_()
    for gradient, expected in zip(torch.autograd.grad(loss, scores), right, strict=True):
        assert torch.equal(gradient, expected)


@every_loss
def test_positional_arguments(row):
    given = tensors(row, arguments(row))
    leading = [name for name, p in row.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name in given]
    leading = leading[: next((i for i, name in enumerate(leading) if list(row.parameters)[i] != name), len(leading))]
    call = partial(getattr(fst, row.name), *[given[name] for name in leading])
    assert torch.equal(
        call(**{name: value for name, value in given.items() if name not in leading}),
        getattr(fst, row.name)(**given),
    )
