"""The declarations of XLA's foreign function interface beside those that come with jaxlib."""

import pytest

from c_compiler import LEVELS, compile_c

pytestmark = pytest.mark.peers

# Structures and their fields by our names and by XLA's.
STRUCTURES = {
    ("fsl_ffi_extension", "XLA_FFI_Extension_Base"): ["struct_size", "type", "next"],
    ("fsl_ffi_version", "XLA_FFI_Api_Version"): ["struct_size", "extension_start", "major_version", "minor_version"],
    ("fsl_ffi_metadata", "XLA_FFI_Metadata"): ["struct_size", "api_version", "traits"],
    ("fsl_ffi_metadata_extension", "XLA_FFI_Metadata_Extension"): ["extension_base", "metadata"],
    ("fsl_ffi_error_create_args", "XLA_FFI_Error_Create_Args"): ["struct_size", "extension_start", "message", "errc"],
    ("fsl_ffi_api", "XLA_FFI_Api"): [
        "struct_size", "extension_start", "api_version", "internal_api", ("error_create", "XLA_FFI_Error_Create"),
    ],
    ("fsl_ffi_buffer", "XLA_FFI_Buffer"): ["struct_size", "extension_start", "dtype", "data", "rank", "dims"],
    ("fsl_ffi_span", "XLA_FFI_ByteSpan"): ["ptr", "len"],
    ("fsl_ffi_array", "XLA_FFI_Array"): ["dtype", "size", "data"],
    ("fsl_ffi_buffers", "XLA_FFI_Args"): ["struct_size", "extension_start", "size", "types", ("buffers", "args")],
    ("fsl_ffi_buffers", "XLA_FFI_Rets"): ["struct_size", "extension_start", "size", "types", ("buffers", "rets")],
    ("fsl_ffi_attributes", "XLA_FFI_Attrs"): [
        "struct_size", "extension_start", "size", "types", "names", ("values", "attrs"),
    ],
    ("fsl_ffi_frame", "XLA_FFI_CallFrame"): [
        "struct_size", "extension_start", "api", ("context", "ctx"), "stage", "args", ("results", "rets"),
        ("attributes", "attrs"),
    ],
}  # fmt: skip

CODES = {
    "FSL_FFI_MAJOR": "XLA_FFI_API_MAJOR",
    "FSL_FFI_METADATA": "XLA_FFI_Extension_Metadata",
    "FSL_FFI_EXECUTE": "XLA_FFI_ExecutionStage_EXECUTE",
    "FSL_FFI_BUFFER": "XLA_FFI_ArgType_BUFFER",
    "FSL_FFI_ARRAY": "XLA_FFI_AttrType_ARRAY",
    "FSL_FFI_STRING": "XLA_FFI_AttrType_STRING",
    "FSL_FFI_PRED": "XLA_FFI_DataType_PRED",
    "FSL_FFI_S32": "XLA_FFI_DataType_S32",
    "FSL_FFI_F32": "XLA_FFI_DataType_F32",
    "FSL_FFI_F64": "XLA_FFI_DataType_F64",
    "FSL_FFI_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
}


def _same_fields():
    for (ours, theirs), fields in STRUCTURES.items():
        for field in fields:
            mine, other = field if isinstance(field, tuple) else (field, field)
            yield f"offsetof({ours}, {mine}) == offsetof({theirs}, {other})", f"{theirs}.{other}"
            yield f"sizeof((({ours} *)0)->{mine}) <= sizeof((({theirs} *)0)->{other})", f"size of {theirs}.{other}"


def _same_codes():
    from fastseqloss.jax.host_call import _CODES  # here, since it needs JAX

    kinds = {"int": "S", "uint": "U", "float": "F", "bfloat": "BF", "complex": "C"}
    for code, name in _CODES.items():
        kind = name.rstrip("0123456789")
        yield f"{code} == XLA_FFI_DataType_{'PRED' if name == 'bool' else kinds[kind] + name[len(kind) :]}", name
    for ours, theirs in CODES.items():
        yield f"{ours} == {theirs}", theirs


def test_declarations_are_those_of_jaxlib(tmp_path):
    ffi = pytest.importorskip("jax.ffi")
    checks = "".join(f'_Static_assert({check}, "{what}");\n' for check, what in [*_same_fields(), *_same_codes()])
    source = tmp_path / "declarations.c"
    source.write_text(f'#include "xla/ffi/api/c_api.h"\n#include "xla/ffi.h"\n{checks}')
    compile_c(source, tmp_path, next(iter(LEVELS)), ["-fsyntax-only", f"-I{ffi.include_dir()}"])
