from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Callable[[bytes, tuple[Any, ...], tuple[Any, ...]], None]

def handler_of(called: Run, array_class: type, dtypes_by_code: Mapping[int, Any], kernels: Sequence[object]) -> Any: ...
