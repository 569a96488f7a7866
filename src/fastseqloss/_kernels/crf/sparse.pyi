from typing import Any

from numpy.typing import NDArray

def run(kind: int, arrays: tuple[NDArray[Any] | None, ...], num_threads: int) -> None: ...
