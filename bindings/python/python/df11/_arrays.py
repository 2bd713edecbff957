"""One interface to the memory of NumPy and of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ._errors import InvalidInputError, UnsupportedError

#: Element types: bits of each, name in NumPy or ml_dtypes, name in PyTorch.
TYPES: dict[str, tuple[int, str | None, str]] = {
    "BOOL": (8, "bool", "bool"),
    "U8": (8, "uint8", "uint8"),
    "I8": (8, "int8", "int8"),
    "U16": (16, "uint16", "uint16"),
    "I16": (16, "int16", "int16"),
    "U32": (32, "uint32", "uint32"),
    "I32": (32, "int32", "int32"),
    "U64": (64, "uint64", "uint64"),
    "I64": (64, "int64", "int64"),
    "F16": (16, "float16", "float16"),
    "BF16": (16, "bfloat16", "bfloat16"),
    "F32": (32, "float32", "float32"),
    "F64": (64, "float64", "float64"),
    "C64": (64, "complex64", "complex64"),
    "F8_E4M3": (8, "float8_e4m3fn", "float8_e4m3fn"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz", "float8_e4m3fnuz"),
    "F8_E5M2": (8, "float8_e5m2", "float8_e5m2"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz", "float8_e5m2fnuz"),
    "F8_E8M0": (8, "float8_e8m0fnu", "float8_e8m0fnu"),
    # A byte holds two, and NumPy has no type for that.
    "F4": (4, None, "float4_e2m1fn_x2"),
}


class Framework(Protocol):
    """Makes tensors, and returns the address of their memory."""

    def empty(self, dtype: str, shape: Sequence[int]) -> Any:
        """Make a contiguous tensor without content."""

    def address(self, tensor: Any) -> tuple[int, int]:
        """Return the address and the bytes of a contiguous tensor."""

    def finish(self, tensor: Any) -> Any:
        """Move a finished tensor to its device."""

    def stored_shape(self, dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the tensor from the shape in the header."""


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Find the type of NumPy for one of safetensors."""
    name = TYPES[dtype][1] if dtype in TYPES else None
    if name is None:
        raise UnsupportedError(f"NumPy has no type for elements of type {dtype}")
    # Whoever has tensors of PyTorch alone does not need it.
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, None) or name)


def numpy_name(dtype: np.dtype[Any]) -> str:
    """Find the name that safetensors has for a type of NumPy."""
    for name, (bits, known, _) in TYPES.items():
        if known == dtype.name and bits == 8 * dtype.itemsize:
            return name
    known_names = ", ".join(str(known) for _, known, _ in TYPES.values() if known)
    raise UnsupportedError(f"elements of type {dtype} cannot be stored, but those of {known_names}")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type with the byte order of this machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


class Numpy:
    """Arrays of NumPy."""

    def empty(self, dtype: str, shape: Sequence[int]) -> Any:
        """Make an array without content."""
        return np.empty(tuple(shape), numpy_dtype(dtype))

    def address(self, tensor: Any) -> tuple[int, int]:
        """Return the address and the bytes of an array."""
        return tensor.ctypes.data, tensor.nbytes

    def finish(self, tensor: Any) -> Any:
        """Return the array unchanged."""
        return tensor

    def stored_shape(self, dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape unchanged."""
        return tuple(shape)


class Torch:
    """Tensors of PyTorch, on a device."""

    def __init__(self, device: Any = "cpu") -> None:
        import torch

        self.torch = torch
        self.device = torch.device(device)

    def empty(self, dtype: str, shape: Sequence[int]) -> Any:
        """Make a tensor without content, on the CPU."""
        known = getattr(self.torch, TYPES[dtype][2], None) if dtype in TYPES else None
        if known is None:
            raise UnsupportedError(f"this PyTorch has no type for elements of type {dtype}")
        # Also where another device is the default.
        return self.torch.empty(self.stored_shape(dtype, shape), dtype=known, device="cpu")

    def address(self, tensor: Any) -> tuple[int, int]:
        """Return the address and the bytes of a tensor."""
        return tensor.data_ptr(), tensor.nbytes

    def finish(self, tensor: Any) -> Any:
        """Move the tensor to the device."""
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def stored_shape(self, dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Halve the last dimension where one element of PyTorch holds two."""
        if dtype == "F4" and shape:
            return (*shape[:-1], shape[-1] // 2)
        return tuple(shape)


def framework(name: str, device: Any = "cpu") -> Framework:
    """Find a framework by the name that safetensors has for it."""
    if name in ("pt", "torch", "pytorch"):
        return Torch(device)
    if name in ("np", "numpy"):
        if str(device) != "cpu":
            raise InvalidInputError(f"arrays of NumPy are on the CPU, not on {device}")
        return Numpy()
    raise UnsupportedError(f"there is no framework {name!r} here, but 'pt' and 'np'")


def count(shape: Sequence[int]) -> int:
    """Multiply the dimensions."""
    return math.prod(shape)
