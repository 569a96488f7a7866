"""Codes that Python and kernels share, compared with signatures and arrays."""

import typing

import numpy as np
import pytest

from fastseqloss._core import arrays, options, types
from fastseqloss._kernels import codes


def test_inputs_are_those_of_signatures():
    assert typing.get_args(types.Input) == tuple(codes.INPUTS.values())
    assert [codes.INPUTS[kind] for kind in options.InputKind] == [kind.name.lower() for kind in options.InputKind]


@pytest.mark.parametrize("name", [name for name in codes.STORED.values() if name != "bfloat16"])
def test_types_are_stored_as_they_are(name):
    dtype = np.dtype(name)
    assert codes.STORED[arrays.stored_kind(dtype)] == name
    assert arrays.stored_kind(dtype.newbyteorder()) is None or dtype.itemsize == 1
