"""Compressed files of NumPy arrays, with the functions of `safetensors.numpy`.

BF16 and the 8-bit floats are the types of `ml_dtypes`. Reading takes plain files as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _saving
from ._arrays import numpy_name
from ._errors import InvalidInputError
from ._files import Options, Path
from ._open import safe_open

if TYPE_CHECKING:
    from typing_extensions import Unpack

Array = np.ndarray[Any, Any]

__all__ = ["load", "load_file", "save", "save_file"]


def _write(tensors: dict[str, Array], metadata: dict[str, str] | None, path: str) -> None:
    from safetensors import TensorSpec, serialize_file

    held, specs = [], {}
    for name, array in tensors.items():
        if not isinstance(array, np.ndarray):
            raise InvalidInputError(f"tensor {name} is a {type(array).__name__}, not an array")
        dtype = numpy_name(array.dtype)
        array = np.asarray(array.astype(array.dtype.newbyteorder("<"), copy=False), order="C")
        held.append(array)
        specs[name] = TensorSpec(
            dtype=_SPELLED.get(dtype, array.dtype.name),
            shape=list(array.shape),
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
    serialize_file(specs, path, metadata=metadata)


#: Names that safetensors takes and NumPy does not give.
_SPELLED = {"C64": "complex64"}


def save_file(
    tensor_dict: dict[str, Array],
    filename: Path,
    metadata: dict[str, str] | None = None,
    **options: Unpack[Options],
) -> None:
    """Write arrays to a compressed file. The keyword arguments are those of `df11.compress`."""

    def write(path: str) -> None:
        _write(tensor_dict, metadata, path)

    _saving.save_file(write, filename, options)


def save(
    tensor_dict: dict[str, Array],
    metadata: dict[str, str] | None = None,
    **options: Unpack[Options],
) -> bytes:
    """Compress arrays into the bytes of a file."""

    def write(path: str) -> None:
        _write(tensor_dict, metadata, path)

    return _saving.save(write, options)


def load_file(filename: Path, *, backend: str = "mmap", threads: int = 0) -> dict[str, Array]:
    """Decode all tensors of a file, or of a directory, on several threads."""
    with safe_open(filename, "np", backend=backend, threads=threads) as opened:
        return opened.get_tensors()


def load(data: bytes, *, threads: int = 0) -> dict[str, Array]:
    """Decode all tensors from the bytes of a file."""
    with _saving.Bytes(data) as path:
        return load_file(path, threads=threads)
