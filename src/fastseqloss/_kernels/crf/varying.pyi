from typing import Any

from numpy.typing import NDArray

# arrays: emissions, transitions, tags, lengths, order, scale, starts and ends, cost, loss, paths, found, grad,
# pairs, grad_ends
def run(kind: int, arrays: tuple[NDArray[Any] | None, ...], num_threads: int) -> None: ...
