"""Single arrays as frames: self-contained, with checksums."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from . import _df11
from ._arrays import Numpy, Torch, native, numpy_name
from ._arrays import framework as framework_of
from ._errors import UnsupportedError

#: Types that frames support; as plain bytes, other types would lose their type.
_KNOWN = ("U8", "BF16", "F16", "F32", "F8_E4M3", "F8_E5M2")


def _torch_name(dtype: Any) -> str:
    from ._arrays import TYPES

    name = str(dtype).removeprefix("torch.")
    return next((known for known, types in TYPES.items() if types[2] == name), name)


def encode(array: Any, *, codec: Literal["rans", "fast"] = "rans", threads: int = 0) -> bytes:
    """Encode an array of NumPy, or a tensor of PyTorch, as one frame.

    Args:
        array: BF16, F16, F32, 8-bit floats, or bytes (U8); of any shape, on the CPU.
        codec: `rans` for the smallest frame, `fast` for one that is the fastest to decode.
        threads: How many; 0 for as many as there are processors.

    """
    if type(array).__module__.partition(".")[0] == "torch":
        array = array.detach().cpu().contiguous()
        dtype, memory = _torch_name(array.dtype), Torch().address(array)
    else:
        # Not ascontiguousarray, which makes a scalar a vector.
        array = np.asarray(array, order="C")
        array = array.astype(native(array.dtype), copy=False)
        dtype, memory = numpy_name(array.dtype), Numpy().address(array)
    if dtype not in _KNOWN:
        problem = f"frames hold {', '.join(_KNOWN)}, but these elements are {dtype}: "
        raise UnsupportedError(problem + "pass array.view(uint8) to keep their bytes")
    return _df11.encode_frame(dtype, list(array.shape), memory, codec, threads)


def decode(data: Any, *, framework: str = "np", threads: int = 0) -> Any:
    """Decode a frame, given as any bytes, into a new array.

    Args:
        data: The frame: bytes, or anything whose memory Python can see.
        framework: `np` for an array of NumPy, `pt` for a tensor of PyTorch.
        threads: How many; 0 for as many as there are processors.

    """
    held = np.frombuffer(data, np.uint8)
    memory = Numpy().address(held)
    dtype, shape, _ = _df11.describe_frame(memory)
    maker = framework_of(framework)
    out = maker.empty(dtype, shape)
    _df11.decode_frame(memory, maker.address(out), threads)
    return out
