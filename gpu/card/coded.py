"""Units and frames on a card, and launches of the kernels that decode them: for bench.py and gemv.py."""
import glob
import json
import os
import re
import struct
import sys

import cupy as cp
import numpy as np

THREADS, WARPS = 256, 8
PUBLISHED_THREADS, BLOCK_BYTES = 512, 4096


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


# Files.

def header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length


def tensor(path, begin, entry):
    first, last = entry["data_offsets"]
    return np.fromfile(path, np.uint8, last - first, offset=begin + first)


def read_units(folder, original, most_bytes):
    """Units on the card: their six parts, and the weights that must come out."""
    plain, plain_begin = header(original)
    units, bytes_ = [], 0
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        found, begin = header(path)
        told = json.loads(found.get("__metadata__", {}).get("df11", "{}"))
        for unit in told.get("units", []):
            part = {
                name: tensor(path, begin, found[f"{unit['path']}.{name}"])
                for name in ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps")
            }
            n = part["sign_mantissa"].size
            if units and bytes_ + 2 * n > most_bytes:
                continue
            bytes_ += 2 * n
            positions = part["output_positions"].view(np.uint32)
            expected = np.concatenate([tensor(original, plain_begin, plain[name]) for name in unit["tensors"]])
            # A byte more: the published kernel reads one after the last gap.
            gaps = np.concatenate([part["gaps"], np.zeros(1, np.uint8)])
            units.append({
                "n": n, "n_bytes": part["encoded_exponent"].size, "n_luts": part["luts"].size // 256,
                "luts": cp.asarray(part["luts"]), "codes": cp.asarray(part["encoded_exponent"]),
                "sm": cp.asarray(part["sign_mantissa"]), "positions": cp.asarray(part["output_positions"]),
                "gaps": cp.asarray(gaps), "expected": cp.asarray(expected), "out": cp.empty(2 * n, cp.uint8),
                "blocks": -(-part["encoded_exponent"].size // BLOCK_BYTES),
                "shared": 4 * PUBLISHED_THREADS + 4 + 2 * int(np.diff(positions.astype(np.int64)).max()),
                "compressed": sum(array.size for array in part.values()), "tensors": unit["tensors"],
                "table": cp.asarray(decode_table(part["luts"])),
            })
    return units


def up(value, multiple):
    return -(-value // multiple) * multiple


def read_frames(folder, original, names):
    """Frames of codec rANS (spec/FRAME.md) of these tensors, on the card."""
    plain, plain_begin = header(original)
    frames = []
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        found, begin = header(path)
        for name in names:
            if name not in found or found[name]["dtype"] != "U8":
                continue
            data = tensor(path, begin, found[name])
            if bytes(data[:8]) != b"\x89DF11\r\n\x1a" or data[9] != 1 or data[10] != 1:
                continue
            expected = tensor(original, plain_begin, plain[name])
            frames.append({**parse_frame(data), "data": cp.asarray(data), "expected": cp.asarray(expected)})
    for frame in frames:
        prepare_frame(frame)
    return frames


def parse_frame(data):
    head = bytes(data[: 32 + 8 * 32 + 32 + 512 + 64])
    scale_bits, rank = head[12], head[13]
    n, size = struct.unpack_from("<QI", head, 16)
    at = 32 + 8 * rank
    symbols = [s for s in range(256) if head[at + s // 8] >> (s % 8) & 1]
    at += 32
    frequencies = struct.unpack_from(f"<{len(symbols)}H", head, at)
    at = up(up(at + 2 * len(symbols), 4) + 4, 16)
    described = []
    for first in range(0, n, size):
        count = min(size, n - first)
        (w,) = struct.unpack("<I", bytes(data[at + 4 : at + 8]))
        states, words = at + 16, at + 144
        raw = up(words + w, 16)
        described.append((states, words, raw, first, w // 2 | count << 32))
        at = up(raw + count, 16)
    slots = [s | (f - 1) << 8 | k << 20 for s, f in zip(symbols, frequencies) for k in range(f)]
    return {"n": n, "scale_bits": scale_bits, "described": np.array(described, np.uint64), "slots": np.array(slots, np.uint32),
            "compressed": data.size}


def prepare_frame(frame):
    frame["number"] = len(frame["described"])
    frame["described"] = cp.asarray(frame["described"])
    frame["slots"] = cp.asarray(frame["slots"])
    frame["status"] = cp.zeros(frame["number"], cp.uint32)
    frame["out"] = cp.empty(2 * frame["n"], cp.uint8)


def encode_blocks(expected, size):
    """Blocks of rANS (spec/RANS.md) of another size, encoded on the card: all whole blocks of these weights."""
    n = expected.size // 2 // size * size
    weights = expected[: 2 * n].view(cp.uint16)
    coded = (weights >> 7 & 0xFF).astype(cp.uint8)
    raw = (weights >> 8 & 0x80 | weights & 0x7F).astype(cp.uint8)
    counts = cp.bincount(coded, minlength=256)
    counts = np.asarray(counts.get() if hasattr(counts, "get") else counts).astype(np.int64)
    f = np.where(counts > 0, np.maximum(1, counts * 4096 // n), 0)
    while f.sum() != 4096:
        f[f.argmax()] += np.sign(4096 - f.sum())
    c = np.concatenate([[0], np.cumsum(f)[:-1]])
    f_card, c_card = cp.asarray(f.astype(np.uint32)), cp.asarray(c.astype(np.uint32))
    blocks, steps = n // size, size // 32
    symbols = coded.reshape(blocks, steps, 32)
    state = cp.full((blocks, 32), 1 << 15, cp.uint32)
    words = cp.zeros((blocks, steps, 32), cp.uint16)
    taken = cp.zeros((blocks, steps, 32), cp.bool_)
    for step in range(steps):
        symbol = symbols[:, step, :]
        frequency, before = f_card[symbol], c_card[symbol]
        full = state.astype(cp.uint64) >= frequency.astype(cp.uint64) << 19
        words[:, step, :] = (state & 0xFFFF).astype(cp.uint16)
        taken[:, step, :] = full
        state = cp.where(full, state >> 16, state)
        state = (state // frequency << 12) + state % frequency + before
    number = taken.sum(axis=(1, 2))
    number = np.asarray(number.get() if hasattr(number, "get") else number).astype(np.int64)
    states_bytes = 128 * blocks
    data = cp.concatenate([state.astype(cp.uint32).reshape(-1).view(cp.uint8), words[taken].view(cp.uint8), raw])
    word_at = states_bytes + 2 * np.concatenate([[0], np.cumsum(number)[:-1]])
    raw_at = states_bytes + 2 * int(number.sum())
    described = np.array(
        [(128 * j, word_at[j], raw_at + j * size, j * size, int(number[j]) | size << 32) for j in range(blocks)], np.uint64)
    slots = np.array([s | (int(f[s]) - 1) << 8 | k << 20 for s in range(256) for k in range(int(f[s]))], np.uint32)
    frame = {"n": n, "scale_bits": 12, "described": described, "slots": slots, "data": data,
             "expected": expected[: 2 * n], "compressed": int(data.size)}
    prepare_frame(frame)
    return frame


# Tables of the host's.

def decode_table(luts):
    """The table of `df11_decode_batch`, as `df11_gpu::table` makes it."""
    lengths, size = luts[-256:].astype(np.int64), 2048
    single = []
    for index in range(size):
        bits, value, level = index << 21, int(luts[index >> 3]), 1
        while value >= 240 and level < 4:
            row = 256 - value
            if row * 256 + 256 > len(luts) - 256:
                break
            value, level = int(luts[row * 256 + (bits >> (24 - 8 * level) & 255)]), level + 1
        if value >= 240:
            single.append((0, 1))
        else:
            length = int(lengths[value])
            single.append((value, length if 1 <= length <= 32 else 1))
    first, count = [size] * 256, [0] * 256
    for index, (symbol, _) in enumerate(single):
        first[symbol] = min(first[symbol], index)
    alike = lambda symbol, at, length: length <= 11 and (first[symbol] ^ at) >> (11 - length) == 0
    for index, (symbol, length) in enumerate(single):
        count[symbol] += alike(symbol, index, length)
    words = []
    for index in range(size):
        symbols = used = number = 0
        while number < 4:
            at = index << used & 2047
            symbol, length = single[at]
            sure = number == 0 and length <= 8 or alike(symbol, at, length) and count[symbol] == 1 << (11 - length)
            if used + length > 11 or not sure:
                break
            symbols |= (symbol >> 1 | (symbol & 1) << 7) << 8 * number
            used, number = used + length, number + 1
        words += [symbols, used | number << 19 if number else 96]
    turned = [int(lengths[(s << 1 | s >> 7) & 255]) for s in range(256)]
    return np.concatenate([np.array(words, np.uint32).view(np.uint8),
                           np.array([x if 1 <= x <= 32 else 1 for x in turned], np.uint8)])


PARSE = r"""
extern "C" __global__ void parse(const unsigned char *symbols, const short *children, const short *numbers, unsigned short *codes,
                                 unsigned short *counts, int chunks) {
    int chunk = blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= chunks) return;
    int n = 0, node = -1;
    for (int i = 0; i < 4096; i++) {
        int symbol = symbols[4096ull * chunk + i], next = node < 0 ? -1 : children[256 * node + symbol];
        if (next < 0) {
            if (node >= 0) codes[4096ull * chunk + n++] = numbers[node];
            next = children[symbol];
        }
        node = next;
    }
    codes[4096ull * chunk + n++] = numbers[node];
    counts[chunk] = (n + 7) / 8;
    while (n % 8) codes[4096ull * chunk + n++] = 0;
}
extern "C" __global__ void pack(const unsigned short *codes, const unsigned *offsets, unsigned char *bytes, int chunks) {
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        int groups = offsets[chunk + 1] - offsets[chunk];
        for (int g = threadIdx.x; g < groups; g += blockDim.x) {
            unsigned char *to = bytes + 12ull * (offsets[chunk] + g);
            for (int i = 0; i < 8; i += 2) {
                unsigned a = codes[4096ull * chunk + 8 * g + i], b = codes[4096ull * chunk + 8 * g + i + 1];
                *to++ = a; *to++ = a >> 8 | b << 4; *to++ = b >> 4;
            }
        }
    }
}
"""


def encode_fast(expected):
    """Chunks of codec dictionary (spec/DICTIONARY.md) of these weights, with 4,096 likely strings: not those of the reference,
    which has two costs, but as many and nearly as good."""
    import heapq
    n = expected.size // 2 // 4096 * 4096
    weights = expected[: 2 * n].view(cp.uint16)
    coded = (weights >> 7 & 0xFF).astype(cp.uint8)
    raw = (weights >> 8 & 0x80 | weights & 0x7F).astype(cp.uint8)
    counts = cp.asnumpy(cp.bincount(coded, minlength=256))
    chances = {s: counts[s] / n for s in range(256) if counts[s]}
    strings = [(s,) for s in chances]
    heap = [(-chances[s] * chances[t], (s, t)) for s in chances for t in chances]
    heapq.heapify(heap)
    while len(strings) < 4096 and heap:
        minus, string = heapq.heappop(heap)
        strings.append(string)
        if len(string) < 7:
            for t in chances:
                heapq.heappush(heap, (minus * chances[t], string + (t,)))
    nodes = {(): 0, **{string: i + 1 for i, string in enumerate(strings)}}
    children = np.full((len(nodes), 256), -1, np.int16)
    for string, node in nodes.items():
        if string:
            children[nodes[string[:-1]], string[-1]] = node
    numbers = np.concatenate([[0], np.arange(len(strings))]).astype(np.int16)
    entries = np.zeros(4096, np.uint64)
    for i, string in enumerate(strings):
        # Symbols are turned right by one bit, as the kernels merge them.
        turned = ((s >> 1 | s << 7) & 255 for s in string)
        entries[i] = sum(s << 8 * j for j, s in enumerate(turned)) | 8 * len(string) << 56
    entries[len(strings):] = entries[0]
    chunks = n // 4096
    module = cp.RawModule(code=PARSE, options=("--std=c++17",))
    codes, number = cp.empty(n, cp.uint16), cp.empty(chunks, cp.uint16)
    module.get_function("parse")((-(-chunks // 128),), (128,), (coded, cp.asarray(children), cp.asarray(numbers), codes, number,
                                                                np.int32(chunks)))
    offsets = cp.concatenate([cp.zeros(1, cp.uint32), cp.cumsum(number.astype(cp.uint32)).astype(cp.uint32)])
    bytes_ = cp.zeros(12 * int(offsets[-1]), cp.uint8)
    module.get_function("pack")((4096,), (64,), (codes, offsets, bytes_, np.int32(chunks)))
    return {"n": n, "entries": cp.asarray(entries), "codes": bytes_, "offsets": offsets, "planes": raw, "chunks": chunks,
            "expected": expected[: 2 * n], "out": cp.empty(2 * n, cp.uint8), "compressed": int(bytes_.size + raw.size + 2 * chunks)}


# Launches.

def address(array):
    return np.uint64(array.data.ptr)


class Batch:
    """Items described for one launch of a kernel."""

    def __init__(self, rows, blocks):
        self.rows = cp.asarray(np.array(rows, np.uint64))
        self.n, self.blocks = len(rows), blocks
        self.status = cp.full(self.n, 0xFFFFFFFF, cp.uint32)

    def __call__(self, kernel, grid):
        kernel((grid,), (THREADS,), (address(self.rows), np.uint32(self.n), np.uint32(self.blocks), np.uint64(0), address(self.status)))

    def is_good(self):
        return bool((self.status == 0xFFFFFFFF).all())


def unit_batch(units, shift=0):
    rows, first = [], 0
    for unit in units:
        part = {name: address(array) for name, array in (unit["shifted"] if shift else unit).items() if hasattr(array, "data")}
        rows.append([address(unit["table"]), part["luts"], part["codes"], part["sm"], part["positions"], part["gaps"],
                     address(unit["out"]), unit["n_luts"], unit["n_bytes"], unit["n"], first, 0])
        first += unit["blocks"]
    return Batch(rows, first)


def frame_batch(frames):
    rows, first = [], 0
    for frame in frames:
        rows.append([address(frame["data"]), address(frame["described"]), address(frame["slots"]), address(frame["out"]), first,
                     frame["number"] | frame["scale_bits"] << 32, 1, 0])
        first += frame["number"]
    return Batch(rows, first)


def fast_batch(frames):
    rows, first = [], 0
    for frame in frames:
        rows.append([address(frame["entries"]), address(frame["codes"]), address(frame["offsets"]), address(frame["planes"]),
                     frame["n"], address(frame["out"]), frame["n"], first, frame["chunks"] | 12 << 32, 1])
        first += frame["chunks"]
    return Batch(rows, first)


def grid_of(blocks, of_a_thread_block, most, is_full=False):
    """As many thread blocks as run at once, or as few as do the same number of rounds."""
    if is_full:
        return max(1, min(most, -(-blocks // of_a_thread_block)))
    rounds = -(-blocks // (of_a_thread_block * most))
    return max(1, -(-blocks // (of_a_thread_block * max(1, rounds))))


def occupancy(kernel):
    from cupy.cuda import driver
    return driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, THREADS, 0)


class Card:
    def __init__(self):
        device = cp.cuda.Device()
        properties = cp.cuda.runtime.getDeviceProperties(device.id)
        name = properties["name"]
        self.name = name.decode() if isinstance(name, bytes) else name
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.capability = 10 * int(properties["major"]) + int(properties["minor"])


def best(folder, kernel, capability):
    found = {}
    for path in glob.glob(os.path.join(folder, f"{kernel}.sm_*.ptx")):
        found[int(re.search(r"sm_(\d+)", path)[1])] = path
    usable = [target for target in found if target <= capability]
    return found[max(usable)] if usable else None


def function(path, entry):
    return cp.RawModule(path=path).get_function(entry)


def copies(items, at_least):
    """The same again in other memory, until there are so many bytes of weights."""
    weights = sum(2 * item["n"] for item in items)
    more = [
        {name: value.copy() if hasattr(value, "dtype") else value for name, value in item.items()}
        for _ in range(1, -(-int(at_least) // weights) if weights else 1) for item in items
    ]
    return items + more


def unit_arguments(unit, integer, shift=0):
    parts = [unit[name] for name in ("luts", "codes", "sm", "positions", "gaps", "out")]
    if shift:
        parts = [unit["shifted"][name] for name in ("luts", "codes", "sm", "positions", "gaps", "out")]
    return (*(address(part) for part in parts), integer(unit["n_luts"]), integer(unit["n_bytes"]), integer(unit["n"]))


def published(kernel, units):
    for unit in units:
        if unit["shared"] > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = unit["shared"]
        kernel((unit["blocks"],), (PUBLISHED_THREADS,), unit_arguments(unit, np.uint32), shared_mem=unit["shared"])


def df11(kernel, units, card, each=4, shift=0):
    for unit in units:
        kernel((min(unit["blocks"], each * card.multiprocessors),), (THREADS,), unit_arguments(unit, np.uint64, shift))
