"""Losslessly compressed model weights.

`compress`, `decompress`, `verify` and `inspect` work on whole checkpoints; `safe_open` gives
tensors, and parts of them, out of compressed and plain ones; `encode` and `decode` turn one array
into bytes and back, and `df11.delta` one that is near to another. `df11.numpy` and `df11.torch`
have the functions of their namesakes in safetensors, and `df11.torch.attach` runs a model whose
weights stay compressed in memory. `import df11.transformers` and `import df11.diffusers` teach
these libraries to load compressed directories.
"""

from ._df11 import __version__
from ._errors import (
    CorruptError,
    DataError,
    DeviceError,
    Error,
    InvalidInputError,
    IoError,
    UnknownTensorError,
    UnsupportedError,
)
from ._files import compress, decompress, inspect, verify
from ._frames import decode, encode
from ._open import Slice, safe_open
from ._reports import (
    CompressReport,
    DecompressReport,
    DeltaReport,
    FrameReport,
    InspectedUnit,
    InspectReport,
    PlainReport,
    UnitReport,
    VerifyReport,
)

__all__ = [
    "CompressReport",
    "CorruptError",
    "DataError",
    "DecompressReport",
    "DeltaReport",
    "DeviceError",
    "Error",
    "FrameReport",
    "InspectReport",
    "InspectedUnit",
    "InvalidInputError",
    "IoError",
    "PlainReport",
    "Slice",
    "UnitReport",
    "UnknownTensorError",
    "UnsupportedError",
    "VerifyReport",
    "__version__",
    "compress",
    "decode",
    "decompress",
    "encode",
    "inspect",
    "safe_open",
    "verify",
]
