"""Calls in the middle of which something is to happen: calls that end too soon for it are followed by longer ones."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

import fastseqloss as fsl

UNWRITTEN = 7


def ever_longer() -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer], NDArray[np.floating]]]:
    """Scores and labels of equal sequences, a gradient to be written: 0.3 s of work at first, then twice as much."""
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(500, 8)).astype(np.float32), rng.integers(1, 8, 240)
    for batch in (1000 << i for i in range(6)):
        many = np.broadcast_to(scores, (batch, *scores.shape))
        yield many, np.broadcast_to(labels, (batch, *labels.shape)), np.full(many.shape, UNWRITTEN, scores.dtype)


def is_unfinished(gradient: NDArray[np.floating]) -> bool:
    """Return True if the call that writes this gradient has not come to its last sequence."""
    return (gradient[-1] == UNWRITTEN).all()


def is_in_the_middle(gradient: NDArray[np.floating]) -> bool:
    """Return True if the first sequence is written, and the last one is not: the order of these looks matters."""
    return gradient[0, 0, 0] != UNWRITTEN and is_unfinished(gradient)


def call_with_signal(
    number: int, handler: Callable, num_threads: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Losses and gradients of equal sequences, from a call in the middle of which a signal's handler has run.

    A thread sends the signal after the first sequence. Python may run the handler too late, on a busy machine.
    """
    ran = []

    def in_the_middle(number: int, frame: object) -> None:
        if is_unfinished(gradient):
            ran.append(True)
            handler(number, frame)

    def watch() -> None:
        while gradient[0, 0, 0] == UNWRITTEN:
            time.sleep(1e-3)
        os.kill(os.getpid(), number)

    signal.signal(number, in_the_middle)
    for scores, labels, gradient in ever_longer():
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        loss, _ = fsl.ctc_loss(scores, labels, reduction="none", grad_out=gradient, num_threads=num_threads)
        if ran:
            return loss, gradient
        watcher.join()  # the handler runs now at the latest
    raise AssertionError("no handler has run in the middle of a call")
