"""Every loss of the table, of arrays of JAX."""

from .._adapters.table import LOSSES
from .functions import function_of

__all__ = sorted(LOSSES)

globals().update({name: function_of(row) for name, row in LOSSES.items()})
