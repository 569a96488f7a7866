"""Pages that show another library are tested where it is installed."""

import importlib.util

collect_ignore = [
    page for page, module in (("pytorch.md", "torch"), ("jax.md", "jax")) if not importlib.util.find_spec(module)
]
