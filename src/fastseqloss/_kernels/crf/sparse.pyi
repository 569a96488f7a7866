from typing import Any

from numpy.typing import NDArray

# arrays: scores, table, lengths, order, scale, stays, moves, starts, counts, loss, paths, grad
def run(kind: int, arrays: tuple[NDArray[Any] | None, ...], num_threads: int) -> None: ...
