"""Every kernel on several threads, and from several Python threads at once, for ThreadSanitizer.

``python tests/races.py`` also compares: the results are those of one thread, to the bit. Batches are small, since a
watched process is slow; there are several threads although there is too little to do for them.
"""

import argparse
import random
import sys
import threading
from typing import Any

import numpy as np

import fastseqloss as fsl
import step_cases
from fuzz_calls import STRATEGIES, Call, parameters
from processes import use_threads
from reference.steps import ELEMENTWISE

THREADS = 4
NAMES = [name for name in STRATEGIES if "num_threads" in parameters(name) and name != "set_num_threads"]


LARGE = (*step_cases.NAMES, "policy_gradient_loss", "clipped_policy_loss")


def large(name: str, seed: int) -> Call:
    """Steps enough for every thread: kernels of steps take them by the hundreds, or by parts of some thousand numbers.

    With the loss of every step, parts begin with whole steps of D numbers, which one worker adds up.
    """
    rng, shape = np.random.default_rng(seed), (6, 700, 5)
    if "policy" not in name:
        each = name in ELEMENTWISE and seed % 2 == 0
        case = step_cases.random_case(
            rng,
            name,
            (2, 3500, 5) if each else shape,
            dtype=(np.float32, np.float64, np.float16)[seed % 3],
            holes=0.1 * (seed % 4 > 1),
        )
        options = {"lengths": case.lengths, "mask": case.mask} | ({"reduction": "none"} if each else {})
        return Call(name, {step_cases.FIRST[name]: case.scores, "targets": case.targets} | options)
    arguments = {"logits": rng.normal(size=shape), "actions": rng.integers(0, 5, shape[:2]), "advantages": np.ones(6)}
    old = {"old_log_probs": -rng.random(shape[:2])} if name == "clipped_policy_loss" else {}
    return Call(name, arguments | old)


def leaves(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [] if result is None else [result]


def call_of(name: str, seed: int) -> Call:
    """A valid call that only reads its arguments."""
    call = large(name, seed) if name in LARGE else STRATEGIES[name](random.Random(seed))
    call.arguments.pop("grad_out", None)
    call.arguments.pop("num_threads", None)
    if "return_grad" in parameters(name):
        call.arguments["return_grad"] = True
    return call


def assert_same(name: str, found: Any, expected: Any) -> None:
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        a, b = (np.asarray(x).astype(np.float64) for x in (a, b))
        with np.errstate(invalid="ignore"):  # a sum over the batch may be added in another order
            near = (a.ndim == 0) & (abs(a - b) <= 1e-12 * abs(b))
        good = (a == b) | (np.isnan(a) & np.isnan(b)) | near
        assert good.all(), f"{name}: {a}, not {b}"


def run(name: str, seed: int) -> None:
    """One call on several threads, from as many Python threads as that."""
    call = call_of(name, seed)
    with np.errstate(all="ignore"):
        use_threads(1)
        expected = call.run()
        use_threads(THREADS)
        results: list[Any] = []
        callers = [threading.Thread(target=lambda: results.append(call.run())) for _ in range(3)]
        for caller in callers:
            caller.start()
        results.append(call.run())
        for caller in callers:
            caller.join()
    assert len(results) == len(callers) + 1, name
    for result in results:
        assert_same(name, result, expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="calls of each function")
    rounds = parser.parse_args().rounds
    for name in NAMES:
        for seed in range(rounds):
            run(name, seed)
        print(f"{name:<24}{rounds} calls", flush=True)
    fsl.show_config(sys.stdout)


if __name__ == "__main__":
    main()
