"""Gives mlx-dfloat's NumPy reader every unit in a file that `units` wrote: python3 with_mlx_dfloat.py UNITS.safetensors"""

import json
import sys

import numpy as np

import without_mlx  # noqa: F401  mlx_dfloat imports mlx
from mlx_dfloat.errors import DFloatError
from mlx_dfloat.format import GroupArrays
from mlx_dfloat.reference import decode_group

TYPES = {"output_positions": "<u4", "split_positions": "<i8"}
KEYS = ["encoded_exponent", "sign_mantissa", "luts", "gaps", "output_positions", "split_positions"]

data = np.fromfile(sys.argv[1], np.uint8)
start = 8 + int(data[:8].view("<u8")[0])
header = json.loads(data[8:start].tobytes())
header.pop("__metadata__", None)


def part(name, dtype=np.uint8):
    info = header[name]
    first, last = info["data_offsets"]
    return data[start + first:start + last].copy().view(dtype), info["shape"]


units = sorted({int(name.split(".")[0]) for name in header})
refused, wrong, empty = [], [], 0
for unit in units:
    arrays = {key: part(f"{unit}.{key}", TYPES.get(key, np.uint8))[0] for key in KEYS}
    arrays["luts"] = arrays["luts"].reshape(-1, 256)
    expected = part(f"{unit}.all", "<u2")[0]
    try:
        found = decode_group(GroupArrays(**arrays), name=str(unit))
    except DFloatError as error:
        refused.append(str(error))
        continue
    if not np.array_equal(found, expected):
        wrong.append(unit)
    # Units in whose last window no codeword starts, as far as its gap tells.
    window = (len(arrays["encoded_exponent"]) - 1) // 8
    bits = sum(np.bincount(expected >> 7 & 255, minlength=256) * arrays["luts"][-1].astype(np.int64))
    last = int(arrays["luts"][-1][expected[-1] >> 7 & 255])
    empty += (bits - last) // 64 < window
print(f"{len(units)} units, {empty} of them with a window in which no codeword starts: {len(refused)} refused, "
      f"{len(wrong)} decoded to other weights")
for line in refused[:10]:
    print(line)
sys.exit(bool(refused or wrong))
