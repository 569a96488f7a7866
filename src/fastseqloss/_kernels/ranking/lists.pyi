from typing import Any

from numpy.typing import NDArray

LOSSES: dict[int, str]

def list_losses(
    kind: int,
    option: float,
    normalized: bool,
    arrays: tuple[NDArray[Any] | None, ...],
    kinds: tuple[int, ...],
    num_threads: int,
) -> None: ...
