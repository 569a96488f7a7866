"""Allowed outcomes of a call: a correct answer, or a documented exception without side effects."""

import copy
import re
import warnings
from typing import Any

import numpy as np

import fastseqloss as fsl
import fuzz_answers
import linear_cases
import ranking_cases
from fuzz_calls import PREFERENCES, STRATEGIES, Call, Judged, parameters
from fuzz_values import Capsule, Foreign, plain
from reference.steps import OF_VECTORS
from step_cases import CLASSIFICATION

EXPECTED = (ValueError, TypeError, MemoryError)
NO_ARRAYS = ("show_config", "get_num_threads", "set_num_threads", "check_grad", "read_arpa")
SAID = r"(is|are|has|have|must|needs|need|requires|shares|overlaps|add|and|adds|returned)\b"


# What NumPy says where an array would have more bytes than there are addresses.
TOO_LARGE = ("array is too big", "Maximum allowed dimension exceeded", "Maximum allowed size exceeded")


class Violation(AssertionError):
    """An outcome of a call that is not allowed."""


def attempt(call: Call, random: Any) -> str:
    """Make a call; return how it ended, "right" or the name of an exception, or raise Violation."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return _judged(call, random)
        except Violation:
            raise
        except Exception as error:
            if str(error).startswith(TOO_LARGE):  # the array to compare with cannot be allocated
                return "too large"
            raise Violation(f"{type(error).__name__}: {error}") from error


def _judged(call: Call, random: Any) -> str:
    try:
        return call.judge(random) if isinstance(call, Judged) else _judged_as_usual(call, random)
    except Violation:
        raise
    except AssertionError as error:
        raise Violation(str(error)) from error


def _judged_as_usual(call: Call, random: Any) -> str:
    clean = {name: _plain(value) for name, value in call.arguments.items()}
    case = copy.deepcopy(call.case) if call.case is not None and not call.wrongs and random.random() < 0.1 else None
    watched = _Watched(call)
    try:
        result = call.run()
    except EXPECTED as error:
        judge_error(call, error)
        watched.check_all()
        return type(error).__name__
    except Exception as error:
        raise Violation(f"{type(error).__name__}: {error}") from error
    watched.check_inputs()
    if call.name == "weighted_sum":
        return _judge_sum(call, result, random)
    _judge_result(call, result, clean)
    if random.random() < 0.3:
        watched.check_alone(result)
    if case is not None:
        fuzz_answers.check(call, case, result, clean)
    return "right"


def judge_error(call: Call, error: Exception, names: tuple[str, ...] = (), expected: Any = EXPECTED) -> None:
    """Return True if a wrong call may raise this: an expected type, with a message that names an argument."""
    if re.search(r"-\d+ bytes|(shape|size)s? (\([^)]*)?-\d", str(error)):
        raise Violation(f"{type(error).__name__} with a negative size: {error}") from error
    if isinstance(error, MemoryError) or str(error).startswith(TOO_LARGE):
        return
    if type(error) not in expected:
        raise Violation(f"{type(error).__name__}: {error}") from error
    names = names or parameters(call.name)
    if any(note.startswith("in ") for note in getattr(error, "__notes__", ())):
        return  # of a term, which is named
    if not names_argument(str(error), names):
        raise Violation(f"{type(error).__name__} names no argument: {error}") from error
    if not call.wrongs:
        raise Violation(f"{type(error).__name__} for a valid call: {error}") from error


def names_argument(message: str, names: tuple[str, ...]) -> bool:
    """Return True if a message names one of the arguments."""
    return re.search(rf"(^|\W)({'|'.join(names)})(\[[^\]]*\]|\.\w+|='\w+')*,? (\(.*\) )?{SAID}", message) is not None


def _plain(value: Any) -> Any:
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else plain(value)


def _judge_result(call: Call, result: Any, clean: dict[str, Any]) -> None:
    options = {}
    has_gradient = "grad_out" in parameters(call.name)
    given = call.arguments.get("grad_out")
    if has_gradient:
        wanted = given is not None or bool(call.arguments.get("return_grad", False))
        wanted |= call.arguments.get("slopes") is not None
        assert isinstance(result, tuple) == wanted, "gradient or none"
        options = {"grad_out": None, "return_grad": wanted}
        if wanted:
            _judge_gradient(call, result[1], clean)
    if call.name.startswith("plot.") or call.name in NO_ARRAYS:
        return
    huge = [v for v in call.arguments.values() if isinstance(v, np.ndarray) and v.nbytes > 10**8]
    if not huge:
        again = call.function(**clean | options)
        if has_gradient and isinstance(result, tuple) and isinstance(result[1], tuple):  # None: not wanted
            again = again[0], tuple(b for a, b in zip(result[1], again[1], strict=True) if a is not None)
        assert_same(result, again, "of plain arrays", _rounding(call))
        if has_gradient and options["return_grad"]:
            alone = {name: value for name, value in clean.items() if name != "slopes"}
            loss = call.function(**alone | {"grad_out": None, "return_grad": False})
            assert_same(result[0], loss, "without gradient", max(1e-12, _rounding(call)))
    if not _may_be_nan(call, clean):
        for values in leaves(result):
            assert not np.isnan(np.asarray(values, np.float64)).any(), f"NaN: {values}"


def _rounding(call: Call) -> float:
    """Tolerance for BLAS, whose rounding may depend on the memory order of a weight, also in half precision."""
    if call.name not in linear_cases.EVERY:
        return 0.0
    floats = [np.asarray(value).dtype for name, value in call.arguments.items() if name in linear_cases.OF_LAYER]
    return 1e-2 if min(dtype.itemsize for dtype in floats) == 2 else 1e-5


def leaves(result: Any) -> list[Any]:
    """The numbers that a result is made of."""
    if isinstance(result, str):
        return [np.array([*map(ord, result)])]
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [] if result is None else [result]


def assert_same(result: Any, expected: Any, which: str, rtol: float = 0.0) -> None:
    """Equal to the bit, but for sums over a batch: the memory of an array decides in which order they are added."""
    found, wanted = leaves(result), leaves(expected)
    assert len(found) == len(wanted), f"{which}: {len(found)} results, not {len(wanted)}"
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{which}: shape {a.shape}, not {b.shape}"
        assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("="), f"{which}: dtype {a.dtype}, not {b.dtype}"
        a, b = a.astype(np.float64), b.astype(np.float64)
        allowed = max(rtol, 1e-12 if a.ndim == 0 else 0)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(a - b) <= allowed * np.maximum(1, np.maximum(np.abs(a), np.abs(b)))
        good = (a == b) | (np.isnan(a) & np.isnan(b)) | near
        assert good.all(), f"{which}: {a[~good][:3]}, not {b[~good][:3]}"


def _judge_gradient(call: Call, gradient: Any, clean: dict[str, Any]) -> None:
    """Check type and place of the gradient, and its zeros at positions that do not count."""
    outs = call.arguments.get("grad_out")
    if isinstance(gradient, tuple):
        names = fuzz_answers.SCORES.get(call.name, getattr(gradient, "_fields", ()))
        gradients = dict(zip(names, gradient, strict=True))
        outs = outs if isinstance(outs, tuple) else (outs,)
        outs = dict(zip(gradients, (*outs, *[None] * (len(gradients) - len(outs))), strict=True))
    else:
        name = next(iter(call.arguments))
        gradients, outs = {name: gradient}, {name: outs}
    if isinstance(gradient, fsl.CRFGradient):
        assert (gradient.start is None, gradient.end is None) == tuple(clean.get(k) is None for k in ("start", "end"))
    for name, found in gradients.items():
        if found is None:
            continue
        given = np.asarray(clean[name])
        assert isinstance(found, np.ndarray), f"gradient of {name} is a {type(found).__name__}"
        assert found.shape == given.shape, f"gradient of {name} has shape {found.shape}"
        assert found.dtype.newbyteorder("=") == given.dtype, f"gradient of {name} has dtype {found.dtype}"
        assert outs[name] is None or found is outs[name], f"gradient of {name} is not in grad_out"
    if call.name in fuzz_answers.SCORES:
        for name, counted in fuzz_answers.nodes_that_count(clean).items():
            if gradients[name] is None:
                continue
            assert not np.asarray(gradients[name])[~counted].astype(np.float64).any(), "gradient where nothing counts"
        return
    if call.name in fuzz_answers.SOFT_DTW:
        fuzz_answers.check_padding_of_pairs(gradients, clean)
        return
    if call.name in OF_CTC or call.name in fuzz_answers.CRF:
        counted = fuzz_answers.frames_that_count(clean)
    elif call.name == "ctc_crf_loss":
        counted = fuzz_answers.frames_that_count({**clean, "scores": np.asarray(clean["scores"])[..., 0]})
    elif call.name in ranking_cases.NAMES:
        counted = fuzz_answers.items_that_count(clean)
    elif call.name in STEP_LOSSES:
        counted = fuzz_answers.steps_that_count(clean, call.name in OF_CLASSES)
    else:
        return
    found = next(iter(gradients.values()))
    if found is None:  # not wanted
        return
    if counted is not None and found.size < 10**6:
        assert not np.asarray(found)[~counted].astype(np.float64).any(), "gradient where nothing counts"


OF_CLASSES = {*CLASSIFICATION, *OF_VECTORS, *linear_cases.OF_STEPS}
OF_CLASSES |= {"policy_gradient_loss", "clipped_policy_loss", "sequence_log_prob"}
STEP_LOSSES = {name for name in STRATEGIES if "grad_out" in parameters(name)}
OF_CTC = {"ctc_loss", "ctc_entropy", "ctc_risk_loss", "linear_ctc_loss"}
STEP_LOSSES -= {*OF_CTC, "ctc_crf_loss", "expected_risk_loss", *ranking_cases.NAMES, *PREFERENCES}
STEP_LOSSES -= {*fuzz_answers.CRF, *fuzz_answers.SCORES, *fuzz_answers.SOFT_DTW}


def _may_be_nan(call: Call, clean: dict[str, Any]) -> bool:
    """Return True if the definition gives NaN or overflows, which needs infinite, NaN or extremely large numbers."""
    if call.name == "words_from_spans":  # times in seconds
        return clean.get("frame_seconds") is None
    if not call.wrongs:
        return call.name == "check_grad"
    if call.name == "linear_policy_loss" and clean.get("kl_coef"):  # infinite derivatives of both signs
        return True
    if clean.get("input") == "probs" and {"input", next(iter(clean))} & {*call.wrongs}:  # below 0, above 1
        return True
    for name, value in clean.items():
        try:
            numbers = np.asarray(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.dtype.kind not in "fiubV" or numbers.dtype.names:
            continue
        if numbers.size > 10**6:
            return True
        with np.errstate(all="ignore"):
            numbers = np.asarray(numbers, np.float64)
        if name == "clip" or not (np.abs(numbers) < 1e30).all():
            return True
        if name in call.wrongs and numbers.ndim == 0 and 0 < abs(numbers) < 1e-30:
            return True
    return False


def _judge_sum(call: Call, loss: Any, random: Any) -> str:
    """Call the result of `weighted_sum` in turn."""
    rng, dtype = np.random.default_rng(random.getrandbits(32)), random.choice((np.float32, np.float64))
    x = rng.normal(size=(2, 3)).astype(dtype)
    options: dict[str, Any] = random.choice(({}, {"return_grad": True}, {"grad_out": x.copy()}, {"grad_out": x}))
    repr(loss)
    try:
        result = loss(x, **options)
    except EXPECTED as error:
        judge_error(call, error, (r"terms\[\d+\]", "scores", "grad_out"))
        return type(error).__name__
    if options:
        total, gradient = result
        assert isinstance(total, float)
        assert isinstance(gradient, np.ndarray)
        assert (gradient.shape, gradient.dtype) == (x.shape, x.dtype)
    else:
        assert isinstance(result, float)
        if type(call.first) is list and random.random() < 0.3:
            call.first.clear()
            assert_same(loss(x), result, "after terms has been changed")
    return "right"


class _Watched:
    """The memory of all arguments as it was before a call."""

    def __init__(self, call: Call) -> None:
        self.outs = []
        self.rooms = []
        for name, value in call.arguments.items():
            for array in value if isinstance(value, (list, tuple)) else (value,):
                array = array.array if isinstance(array, (Foreign, Capsule)) else array
                if isinstance(array, np.ndarray):
                    if name == "grad_out":
                        self.outs.append((array, np.array(array) if array.nbytes < 10**6 else None))
                    room = array
                    while isinstance(room.base, np.ndarray):
                        room = room.base
                    room = room.view(np.ndarray)  # a masked array would show its fill values
                    if room.nbytes < 10**6:
                        self.rooms.append((name, room, room.tobytes()))

    def check_all(self) -> None:
        """Check that nothing has been written."""
        for name, room, before in self.rooms:
            if room.tobytes() != before:
                raise Violation(f"{name} was written to, and then an exception raised")

    def check_inputs(self) -> None:
        """Check that only grad_out has been written."""
        gradients = [(out, np.array(out)) for out, _ in self.outs]
        for out, before in self.outs:
            if out.flags.writeable and before is not None and not np.ma.isMaskedArray(out):
                out[...] = before
        changed = [name for name, room, before in self.rooms if room.tobytes() != before]
        for out, gradient in gradients:
            if out.flags.writeable and not np.ma.isMaskedArray(out):
                out[...] = gradient
        assert not changed, f"changed: {changed}"

    def check_alone(self, result: Any) -> None:
        """Check that results do not change when the arguments are overwritten."""
        kept = [np.array(leaf) for leaf in leaves(result)]
        spans = result.spans() if hasattr(result, "spans") else None
        outs = [out for out, _ in self.outs]
        rooms = [room for _, room, _ in self.rooms if not any(np.may_share_memory(room, out) for out in outs)]
        changed = [room for room in rooms if room.flags.writeable and room.dtype.kind not in "OMm" and room.size]
        before = [room.copy() for room in changed]
        for room in changed:
            room[...] = np.zeros((), room.dtype)
        for leaf, was in zip(leaves(result), kept, strict=True):
            assert np.asarray(leaf).tobytes() == was.tobytes(), "a result changes with the arguments"
        assert spans is None or result.spans() == spans, "spans change with the arguments"
        for room, was in zip(changed, before, strict=True):
            room[...] = was
