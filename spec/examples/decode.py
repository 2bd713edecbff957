"""Decodes one DF11 unit, with nothing but NumPy: python3 decode.py UNIT.safetensors OUT.bf16

An example of a third-party decoder, written from spec/DF11.md. Clauses stand beside the steps.
"""

import json
import sys

import numpy as np

PARTS = {"luts": "U8", "encoded_exponent": "U8", "sign_mantissa": "U8", "output_positions": "U8", "gaps": "U8",
         "split_positions": "I64"}
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4,
         "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}


def rule(clause, holds):
    if not holds:
        print(f"refused: {clause}", file=sys.stderr)
        sys.exit(10)  # what df11 judge calls invalid


def read(file):
    """The parts of the unit `unit` in the bytes of a safetensors file (D-10.1, D-10.2, D-10.7)."""
    start, end = 8 + int.from_bytes(file[:8], "little"), 0
    try:
        found = json.loads(file[8:start].decode())
        rule("D-10.7", all(type(text) is str for text in found.pop("__metadata__", {}).values()))
        spans = sorted((*info["data_offsets"], info["dtype"], info["shape"]) for info in found.values())
        for first, last, dtype, shape in spans:
            rule("D-10.7", all(type(number) is int and number >= 0 for number in (first, last, *shape)))
            size = int(np.prod(shape, dtype=object)) * SIZES.get(dtype, 0)
            rule("D-10.7", first == end and last - first == size)
            end = last
    except (AttributeError, KeyError, TypeError, ValueError):
        rule("D-10.7", False)
    rule("D-10.7", end == len(file) - start)
    rule("D-10.2", all(found.get(f"unit.{key}", {}).get("dtype") == dtype for key, dtype in PARTS.items()))
    data = np.frombuffer(file, np.uint8)[start:]
    return {key: data[slice(*found[f"unit.{key}"]["data_offsets"])] for key in PARTS}


def decode(luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions):
    n, size = len(sign_mantissa), len(encoded_exponent)
    rule("D-3.4", 1 <= n < 2**31)
    rule("D-5.1", len(luts) % 256 == 0 and 2 <= len(luts) // 256 <= 18)
    *tables, lengths = luts.reshape(-1, 256).tolist()
    k = len(tables)
    rule("D-5.3", all(v < 240 or 256 - v < k for table in tables for v in table))
    rule("D-5.4", max(lengths[:240]) <= 32)
    rule("D-6.1", 1 <= size < 2**31)
    blocks = -(-size // 4096)
    rule("D-7.4", len(gaps) == 320 * blocks)
    gaps = (np.unpackbits(gaps).reshape(-1, 5) @ [16, 8, 4, 2, 1]).tolist()
    rule("D-8.3", len(output_positions) in (4 * blocks, 4 * blocks + 4))
    positions = output_positions.copy().view("<u4").tolist()
    rule("D-8.5", positions[0] == 0 and positions[-1] == n)
    positions += [n] * (blocks + 1 - len(positions))  # D-8.4
    steps = [after - before for before, after in zip(positions, positions[1:])]
    rule("D-8.5", min(steps[:-1], default=1) > 0 and steps[-1] >= 0)
    rule("D-9.1", len(split_positions) % 8 == 0)
    splits = [0, *split_positions.copy().view("<i8").tolist(), n]
    rule("D-9.2", splits == sorted(splits))

    code = encoded_exponent.tobytes() + bytes(8)
    exponents, p, window = bytearray(), 0, 0
    for block in range(blocks):
        for _ in range(positions[block], positions[block + 1]):
            rule("D-8.6", p // 32768 == block)  # also if the block before had too many, or too few
            if p >= 64 * window:
                rule("D-7.2", gaps[window] == p - 64 * window)
                window += 1
            bits = int.from_bytes(code[p // 8:p // 8 + 5], "big") >> (8 - p % 8) & 0xFFFFFFFF
            v, jumps = tables[0][bits >> 24], 0
            while v >= 240:  # D-5.5
                jumps += 1
                rule("D-5.6", jumps <= 3)
                v = tables[256 - v][bits >> (24 - 8 * jumps) & 255]
            rule("D-5.7", lengths[v] > 0)
            rule("D-5.8", 8 * jumps < lengths[v] <= 8 * jumps + 8)
            exponents.append(v)
            p += lengths[v]
            rule("D-6.2", p <= 8 * size)
    e, s = np.frombuffer(exponents, np.uint8).astype("<u2"), sign_mantissa.astype("<u2")
    return (s & 0x80) << 8 | e << 7 | s & 0x7F  # D-3.1, D-3.3


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as unit:
        decode(**read(unit.read())).astype("<u2").tofile(sys.argv[2])
