"""Invalid arguments of calls."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

import fastseqloss as fsl
import fuzz_values
import step_cases
from fuzz_calls import FREE, OPTIONS, STRATEGIES, Call, loss_function, parameters, strange_function
from fuzz_values import SCALARS, guise, wrong
from reference.steps import ELEMENTWISE, OF_VECTORS


def make(random, name: str) -> Call:
    """A call of that function: half of them are valid, in some layout; the others may be anything."""
    call = STRATEGIES[name](random)
    if name == "show_config":
        call.arguments["file"] = io.StringIO()
    arrays = [key for key, value in call.arguments.items() if isinstance(value, np.ndarray) and key != "grad_out"]
    arrays = [] if isinstance(call.arguments.get("grad_out"), tuple) else arrays
    for key in arrays:
        if random.random() < 0.25 and call.arguments[key] is not call.arguments.get("grad_out"):
            call.arguments[key] = guise(random, call.arguments[key])
            if call.arguments[key] is not None and key == next(iter(call.arguments)):
                _refit(random, call)
    if random.random() < 0.02:
        stretch(random, call)
    elif random.random() < 0.6:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            _go_wrong(random, call)
    if random.random() < 0.06 and not call.name.startswith("plot."):  # matplotlib may overflow
        call.errstate = "raise"
    return call


def _refit(random, call: Call) -> None:
    """The first argument has changed, in type perhaps: the array for its gradient must as well."""
    if isinstance(call.arguments.get("grad_out"), np.ndarray):
        given = np.asarray(getattr(call.first, "array", call.first))
        out = np.full(given.shape, 7).astype(given.dtype)
        call.arguments["grad_out"] = random.choice(step_cases.LAYOUTS)(out)


def stretch(random, call: Call) -> None:
    """Every axis that is as long as one of the first argument's becomes absurdly long, of one element repeated."""
    if not fuzz_values.is_small(call.first) or not call.first.ndim:
        return
    length, size = random.choice(call.first.shape), random.choice(fuzz_values.HUGE)
    if call.name in (*ELEMENTWISE, *OF_VECTORS, "gaussian_nll_loss"):
        size = max(size, 2**52)  # means of fewer need little memory, and hours
    only = random.randrange(call.first.ndim) if random.random() < 0.5 else None
    call.arguments.pop("grad_out", None)
    for name, value in call.arguments.items():
        if fuzz_values.is_small(value):
            axes = [axis for axis in range(value.ndim) if value.shape[axis] == length and only in (None, axis)]
            stretched = fuzz_values.stretched(value, axes, size)
            if stretched is not value:
                call.arguments[name] = stretched
                call.wrongs.append(name)


def _go_wrong(random, call: Call) -> None:
    names = [name for name in parameters(call.name) if name not in FREE]
    if not names:
        return
    name = random.choice(names)
    if name == "grad_out":
        value = strange_grad_out(random, call)
    elif name == "terms":
        value = strange_terms(random)
    elif name == "spans":
        value = strange_spans(random, call)
    elif name in OPTIONS:
        value = random.choice(SCALARS)
    elif name in call.arguments and random.random() < 0.85:
        value = wrong(random, call.arguments[name])
    else:
        others = [other for other in call.arguments.values() if isinstance(other, np.ndarray)]
        value = wrong(random, random.choice(others) if others else None)
    call.arguments[name] = value
    call.wrongs.append(name)
    if call.name == "check_grad" and name == "x" and random.random() < 0.5:
        call.arguments["loss_fn"] = strange_function(random)


def strange_grad_out(random, call: Call) -> Any:
    """An array that shares memory with something, or with itself, or is none."""
    x = call.first if fuzz_values.is_small(call.first) else np.zeros((2, 3))
    arrays = [value for value in call.arguments.values() if fuzz_values.is_small(value)]
    shared = random.choice(arrays) if arrays else x
    choices: list[Callable[[], Any]] = [
        lambda: shared,
        lambda: wrong(random, x),
        lambda: x[::-1] if x.ndim else x,
        lambda: np.ma.MaskedArray(x.copy()),
        lambda: fuzz_values.matrix(x),
        lambda: np.lib.stride_tricks.as_strided(np.zeros(8, x.dtype), x.shape, (0,) * x.ndim),
        lambda: fuzz_values.swapped(x),
        lambda: fuzz_values.memmapped(x) if x.dtype.kind == "f" else x,
        lambda: (x,),
        lambda: (x.copy(), None),
        lambda: (x, x),
        lambda: (x.copy(), None, None, None),
        lambda: (x.copy(), x, x, x),
        lambda: tuple(fuzz_values.wrong(random, x) for _ in range(4)),
    ]
    if x.dtype.kind == "f" and x.size:
        choices.append(lambda: _overlapping(random, call, x))
    if x.dtype.kind == "f":
        choices.append(lambda: _inside(random, call, x))
    return random.choice(choices)()


def _overlapping(random, call: Call, x) -> Any:
    """Input and gradient in one piece of memory, an element apart."""
    room = np.zeros(x.size + 1, x.dtype)
    apart = random.choice((0, 1))
    call.arguments[next(iter(call.arguments))] = view = room[apart : x.size + apart].reshape(x.shape)
    view[...] = x
    return room[1 - apart : x.size + 1 - apart].reshape(x.shape)


def _inside(random, call: Call, x) -> Any:
    """The gradient in the memory of another argument, which is as it was otherwise."""
    names = [k for k, v in call.arguments.items() if fuzz_values.is_small(v) and v.dtype.kind in "iufb"]
    if not names:
        return x
    name = random.choice(names)
    other = call.arguments[name]
    room = np.zeros(max(x.nbytes, other.nbytes) + 64, np.uint8)
    view = room[: other.nbytes].view(other.dtype).reshape(other.shape)
    view[...] = other
    call.arguments[name] = view
    out = room[: x.nbytes].view(x.dtype).reshape(x.shape)
    return out


def strange_terms(random) -> Any:
    term = (1.0, loss_function(random))
    return random.choice((
        [], [term, random.choice(SCALARS)], [(random.choice(SCALARS), term[1])], [(1.0, strange_function(random))],
        term, [(1.0, random.choice(SCALARS))], random.choice(SCALARS), [term, (2.0, strange_function(random))],
        iter([term]),        random.choice(fuzz_values.OBJECTS), {term[1]: 1.0}, [[1.0, term[1]], (0, None)],
    ))  # fmt: skip


def strange_spans(random, call: Call) -> Any:
    given = call.arguments["spans"]
    spans = [span for span in given if isinstance(span, tuple)] if isinstance(given, list) else []
    numbers = random.choice((0, -1, 2**70)), random.choice((1, 2**60, 2**70))
    fields = numbers[0], 0, numbers[1], random.choice((0, 0.5, -1, np.nan, np.inf, -np.inf))
    return random.choice((
        [*spans, fsl.TokenSpan(*fields)], [*spans, None], spans[0] if spans else None, random.choice(SCALARS),
        [tuple(s) for s in spans], tuple(spans),
    ))  # fmt: skip
