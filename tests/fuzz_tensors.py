"""Tensors for the fuzzer: values, the same values in other strides, and invalid arguments."""

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import torch

import fuzz_values
from fuzz_values import SCALARS, guise, wrong


def as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def as_tensor(x: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor of its own memory, in its dtype or that of another tensor."""
    x = np.ascontiguousarray(np.array(x, subok=False)).reshape(np.shape(x))
    if x.dtype == ml_dtypes.bfloat16:
        tensor = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(x.astype(np.dtype(x.dtype.newbyteorder("=").str)))  # not ulonglong, but uint64
    return tensor if like is None else tensor.to(like.dtype)


def is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and tensor.device.type == "cpu"


def layout(random, tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, in other strides."""
    way = random.choice(("as it is", "transposed", "strided", "shifted"))
    if way == "transposed" and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if way == "strided" and tensor.ndim:
        larger = torch.ones([2 * n + 1 for n in tensor.shape], dtype=tensor.dtype)
        view = larger[(slice(1, None, 2),) * tensor.ndim]
        view.copy_(tensor)
        return view
    if way == "shifted":
        room = torch.ones(tensor.numel() + 1, dtype=tensor.dtype)
        view = room[1:].view(tensor.shape)
        view.copy_(tensor)
        return view
    return tensor


def constant(random, value: Any) -> Any:
    """An argument without a gradient: a tensor, an array of any layout, a list."""
    if not isinstance(value, np.ndarray):
        return value
    return layout(random, as_tensor(value)) if random.random() < 0.6 else guise(random, value)


def tensor_alone(random, value: np.ndarray) -> torch.Tensor:
    return layout(random, as_tensor(value))


def strange(random, x: np.ndarray) -> Any:
    """A tensor that is not as others, or something else instead."""
    huge = [size for size in fuzz_values.HUGE if size >= 2**33]  # fewer numbers fit in memory, and take long
    tensor = as_tensor(x) if x.dtype.kind in "iufbV" else torch.zeros(2)
    return random.choice((
        lambda: tensor.to_sparse(), lambda: tensor.to("meta"), lambda: tensor.double().requires_grad_(),
        lambda: tensor.to(torch.complex64), lambda: torch._neg_view(tensor.double()),
        lambda: tensor.to(torch.float8_e5m2),
        lambda: torch.nn.Parameter(tensor.float()), lambda: tensor.float().to_mkldnn(), lambda: tensor[None],
        lambda: tensor.reshape(-1)[:1].expand(random.choice(huge), *tensor.shape),
        lambda: torch.zeros(1, dtype=tensor.dtype).expand(
            [random.choice((random.choice(huge), n)) for n in tensor.shape]),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([tensor.float(), tensor.float()]), lambda: tensor.to(torch.complex64).conj(),
        lambda: tensor.to(random.choice((torch.int8, torch.uint8, torch.bool, torch.half, torch.bfloat16, torch.long))),
        lambda: tensor.numpy() if tensor.dtype != torch.bfloat16 else x, lambda: tensor.tolist(),
    ))()  # fmt: skip


def wrong_tensor(random, value: Any) -> Any:
    """Something else in the place of an argument: a tensor that is not as others, or none."""
    try:
        array = as_array(value) if isinstance(value, torch.Tensor) else value
    except (RuntimeError, TypeError, ValueError):
        array = None
    if not fuzz_values.is_small(array):
        array = np.zeros(random.choice(((), 2, (2, 3))))
    way = random.random()
    if way < 0.35:
        try:
            with warnings.catch_warnings(action="ignore"):  # of prototypes and deprecations of PyTorch's
                value = strange(random, array)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # PyTorch has no such tensor
            value = torch.zeros(2)
    elif way < 0.5:
        value = random.choice(SCALARS)
    else:
        value = wrong(random, array)
        if isinstance(value, np.ndarray) and value.nbytes < 10**6 and random.random() < 0.7:
            try:
                value = as_tensor(value)
            except TypeError:
                value = torch.zeros(())
    return value
