"""PyTorch's own samples of its losses, from the tables that its tests of modules and operators run over.

Values and gradients, by targets too where they have one, are PyTorch's in float64, for every sample whose arguments the
losses here take; `REFUSED` lists the others with their errors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
pytest.importorskip("expecttest", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import assert_close  # noqa: E402


def of_elements(name, x, y, **options):
    """Return a loss of one number each: every element is a step, so that "none" keeps them apart."""
    loss = getattr(fst, name)(x.reshape(-1), y.reshape(-1), **options)
    return loss.reshape(x.shape) if options.get("reduction") == "none" else loss


def smooth_l1_loss(x, y, beta=1.0, **options):
    return of_elements("huber_loss", x, y, delta=beta, **options) / beta


def binary_cross_entropy_with_logits(x, y, pos_weight=None, reduction="mean", **options):
    """Binary cross-entropy; the weight of each column is one number."""
    each = partial(of_elements, "binary_cross_entropy", reduction="none", **options)
    if pos_weight is None:
        return (
            each(x, y)
            if reduction == "none"
            else of_elements("binary_cross_entropy", x, y, reduction=reduction, **options)
        )
    columns = [each(x[:, i], y[:, i], pos_weight=w) for i, w in enumerate(pos_weight.tolist())]
    return reduced(torch.stack(columns, -1), reduction)


def reduced(losses, reduction):
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def nll_loss(x, y, weight=None, **options):
    return fst.nll_loss(x.movedim(1, -1) if x.ndim > 2 else x, y, class_weight=weight, **options)


def soft_margin_loss(x, y, **options):
    """The logistic loss of signs is the binary cross-entropy of logits."""
    return of_elements("binary_cross_entropy", x, (y + 1) / 2, **options)


OURS: dict[str, Callable[..., Any]] = {
    "cross_entropy": fst.cross_entropy,
    "ctc_loss": fst.ctc_loss,
    "nll_loss": nll_loss,
    "mse_loss": partial(of_elements, "mse_loss"),
    "l1_loss": partial(of_elements, "mae_loss"),
    "huber_loss": partial(of_elements, "huber_loss"),
    "smooth_l1_loss": smooth_l1_loss,
    "binary_cross_entropy": partial(of_elements, "binary_cross_entropy", input="probs"),
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "soft_margin_loss": soft_margin_loss,
}
MODULES = {
    "CrossEntropyLoss": "cross_entropy",
    "CTCLoss": "ctc_loss",
    "NLLLoss": "nll_loss",
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "HuberLoss": "huber_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "SoftMarginLoss": "soft_margin_loss",
}


class Refusal(NamedTuple):
    """An argument of PyTorch's that a loss does not take, and its error."""

    loss: str
    is_meant: Callable[[Any, dict[str, Any]], bool]  # given the target and the keyword arguments of a sample
    error: type[Exception]
    message: str


def has_negative_weight(target, options):
    return options.get("weight") is not None and bool((options["weight"] < 0).any())


def has_weight(target, options):
    return options.get("weight") is not None


def is_no_sign(target, options):
    return bool((target.abs() != 1).any())


REFUSED = [
    Refusal("cross_entropy", has_negative_weight, ValueError, r"^weight\[\d\] is -\d.*; allowed: finite, 0 or more"),
    Refusal("nll_loss", has_negative_weight, ValueError, r"weight\[\d\] is -\d.*; allowed: finite, 0 or more"),
    Refusal("binary_cross_entropy", has_weight, TypeError, "has no argument 'weight'"),
    Refusal("binary_cross_entropy_with_logits", has_weight, TypeError, "has no argument 'weight'"),
    Refusal(
        "smooth_l1_loss", lambda _, options: options.get("beta") == 0, ValueError, "delta is 0.*; allowed: .*above 0"
    ),
    Refusal("soft_margin_loss", is_no_sign, ValueError, r"targets.* is .*; allowed: 0 to 1"),
]


@pytest.fixture(scope="module")
def tables():
    """PyTorch's tables, imported here because their import takes seconds and imports the compiler."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    operators = {op.name.removeprefix("nn.functional."): op for op in op_db if not op.variant_test_name}
    return operators, {module.name.removeprefix("nn."): module for module in module_db}


def samples_of_operator(tables, name):
    torch.manual_seed(0)
    for sample in tables[0][name].sample_inputs("cpu", torch.float64, requires_grad=False):
        yield sample.input, sample.args, sample.kwargs


def samples_of_module(tables, name):
    torch.manual_seed(0)
    info = tables[1][name]
    for case in info.module_inputs_func(info, "cpu", torch.float64, requires_grad=False, training=True):
        made = case.constructor_input
        assert not made.args
        scores, *others = case.forward_input.args
        yield scores, tuple(others), made.kwargs, case.forward_input.kwargs


def sides(ours, theirs, name, scores, target, *others, **options):
    """Return the losses of both, and their gradients by the scores, and by targets that have one."""
    results = []
    by_target = target.is_floating_point() and name != "soft_margin_loss"
    for loss in (ours, theirs):
        x, y = scores.detach().clone().requires_grad_(), target.detach().clone().requires_grad_(by_target)
        # Free log-probabilities have a true gradient here, and one that is correct after a softmax in PyTorch.
        value = loss(x.log_softmax(-1) if name == "ctc_loss" else x, y, *others, **options)
        results.append((value, *torch.autograd.grad(value.sum(), [x, y] if by_target else [x])))
    return results


def check(both, everything_ignored):
    (value, *gradients), (wanted, *slopes) = both
    assert value.shape == wanted.shape
    assert value.dtype == wanted.dtype
    if everything_ignored and value.ndim == 0 and wanted.isnan():
        wanted = torch.zeros_like(wanted)
    assert_close(value, wanted)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert_close(gradient, slope)


def is_ignored(others, options):
    return options.get("ignore_index") is not None and bool((others[0] == options["ignore_index"]).all())


@pytest.mark.parametrize("name", OURS)
def test_operators(tables, name):
    refusals = {refusal: 0 for refusal in REFUSED if refusal.loss == name}
    compared = 0
    for scores, others, options in samples_of_operator(tables, name):
        refusal = next((refusal for refusal in refusals if refusal.is_meant(others[0], options)), None)
        if refusal is None:
            both = sides(OURS[name], getattr(functional, name), name, scores, *others, **options)
            check(both, is_ignored(others, options))
            compared += 1
        else:
            refusals[refusal] += 1
            with pytest.raises(refusal.error, match=refusal.message):
                OURS[name](scores, *others, **options)
    assert compared >= 5 or name == "soft_margin_loss"  # all of whose samples have targets that are no signs
    assert all(refusals.values()), "a row of the table that no sample needs"


@pytest.mark.parametrize("name", MODULES)
def test_modules(tables, name):
    """As PyTorch's modules; as ours, too, for the two that have the same name."""
    loss = MODULES[name]
    compared = 0
    for scores, others, made, options in samples_of_module(tables, name):
        assert not options
        refusal = next((row for row in REFUSED if row.loss == loss and row.is_meant(others[0], made)), None)
        if refusal is not None:
            with pytest.raises(refusal.error, match=refusal.message):
                OURS[loss](scores, *others, **made)
            continue
        ours = getattr(fst, name)(**made) if hasattr(fst, name) else partial(OURS[loss], **made)
        check(sides(ours, getattr(torch.nn, name)(**made), loss, scores, *others), is_ignored(others, made))
        compared += 1
    assert compared >= 4


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "HuberLoss"])
def test_errors_of_modules(tables, name):
    """Calls that PyTorch refuses are refused."""
    info = tables[1][name]
    cases = info.module_error_inputs_func(info, "cpu", torch.float64, requires_grad=False, training=True)
    assert cases
    for case in cases:
        made, given = case.module_error_input.constructor_input, case.module_error_input.forward_input
        arguments = given.args if given else (torch.ones(2), torch.ones(2))  # PyTorch refuses the constructor's
        with pytest.raises((ValueError, TypeError)):
            OURS[MODULES[name]](*arguments, **made.kwargs)


@pytest.mark.parametrize("name", ["l1_loss", "huber_loss", "soft_margin_loss"])
def test_errors_of_operators(tables, name):
    for case in tables[0][name].error_inputs("cpu"):
        sample = case.sample_input
        with pytest.raises((ValueError, TypeError)):
            OURS[name](sample.input, *sample.args, **sample.kwargs)
