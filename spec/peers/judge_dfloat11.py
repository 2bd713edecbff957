"""The published encoder, dfloat11 0.5.0, for `df11 judge run`: python3 judge_dfloat11.py --batch

Its code is run as it is. What it wants of PyTorch for one unit, arrays without arithmetic, NumPy gives.
"""

import json
import pathlib
import sys
import types

import numpy as np

from batch import serve

# The module beside the package's `__init__`, without the package: that would load the loader, too.
torch = types.ModuleType("torch")
torch.int16, torch.uint8 = np.int16, np.uint8
torch.from_numpy = lambda array: array
progress = types.ModuleType("tqdm")
progress.tqdm = lambda data: data
sys.modules.update({"torch": torch, "tqdm": progress})
source = next(pathlib.Path(folder, "dfloat11/dfloat11_utils.py") for folder in sys.path
              if pathlib.Path(folder, "dfloat11/dfloat11_utils.py").exists())
published = types.ModuleType("dfloat11_utils")
exec(compile(source.read_text(), str(source), "exec"), published.__dict__)


def read(data):
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    names = sorted(header, key=int)
    weights = np.frombuffer(data[start:], "<u2")
    return [weights[slice(*(at // 2 for at in header[name]["data_offsets"]))] for name in names]


def write(parts):
    header, data = {}, b""
    for key, (dtype, array) in parts.items():
        start, data = len(data), data + array.tobytes()
        header[f"unit.{key}"] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def encode(data):
    """What `compress_model` of the package does with the tensors of one unit."""
    tensors = read(data)
    weights = np.concatenate(tensors)
    exponents = weights >> 7 & 0xFF
    values, counts = np.unique(exponents, return_counts=True)
    codec, _, table = published.get_32bit_codec(dict(zip(values.tolist(), counts.tolist())))
    luts = published.get_luts(table)
    code, gaps, positions = published.encode(exponents.tolist(), codec, 8, 512)
    return write({
        "luts": ("U8", luts),
        "encoded_exponent": ("U8", code),
        "sign_mantissa": ("U8", (weights >> 8 & 0x80 | weights & 0x7F).astype(np.uint8)),
        "output_positions": ("U8", positions.view(np.uint8)),
        "gaps": ("U8", gaps),
        "split_positions": ("I64", np.cumsum([len(tensor) for tensor in tensors])[:-1].astype("<i8")),
    })


if __name__ == "__main__":
    serve({"encode": encode})
