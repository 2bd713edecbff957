#!/usr/bin/env python3
"""Times decode kernels on a card, beside the published kernel, and checks each one's weights bit for bit.

bench.py --df11 DIR --rans DIR --original FILE --ptx DIR [--published FILE] [--variants DIR] [--json FILE]
         [--repetitions N] [--seconds S] [--once KERNEL] [--most-bytes B] [--at-least B] [--only WORDS]

--df11, --rans   what `df11 compress` made of the same checkpoint with both codecs
--original       its safetensors file
--ptx            df11_decode.sm_*.ptx, rans_decode.sm_*.ptx, fast_decode.sm_*.ptx; the best for the card are taken
--variants       more PTX files that begin with one of these names, with the same entries and arguments: timed as well
--once           launch one kernel once and end (for ncu): published, or one of ours for many items
--only           only rows whose names have one of these words, which commas divide
--seconds        stop beginning new rows after so long
--most-bytes     of weights that are decoded in one repetition (the working set); all by default
--at-least       bytes of weights: small checkpoints are copied until there are as many, so that nothing stays in a cache
--json           a file to which the rows are appended, as one line

GB/s are 1e9 bytes of BF16 weights a second, by events on the stream: the median of all repetitions. In a repetition every unit is
decoded once, so that nothing comes from a cache. Needs CuPy.
"""
import glob
import json
import os
import sys
import time

import cupy as cp
import numpy as np

from coded import (
    WARPS, Card, address, best, copies, df11, encode_blocks, encode_fast, fast_batch, frame_batch, function, grid_of, occupancy,
    option, published, read_frames, read_units, unit_batch)

STARTED = time.time()
KEPT = []
ROWS, REPETITIONS, LIMIT = [], int(option("--repetitions", 20)), float(option("--seconds", 1e9))
ONLY = option("--only")


def measure(name, out_bytes, launch, poison=(), check=None, note="", stream=None):
    """Runs it once, checks it, times it."""
    if ONLY and not any(word in name for word in ONLY.split(",")):
        return
    if time.time() - STARTED > LIMIT:
        ROWS.append({"name": name, "error": "not begun: no time left"})
        return
    try:
        for array in poison:
            array.fill(0xAB)
        # Streams that do not wait for others do not wait for this either.
        cp.cuda.runtime.deviceSynchronize()
        launch()
        cp.cuda.runtime.deviceSynchronize()
        right = check() if check else None
        for _ in range(2):
            launch()
        times = []
        for _ in range(REPETITIONS):
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record(stream)
            launch()
            end.record(stream)
            end.synchronize()
            times.append(cp.cuda.get_elapsed_time(start, end))
        times.sort()
        median = times[len(times) // 2]
        row = {"name": name, "bytes": int(out_bytes), "ms": median, "least_ms": times[0], "most_ms": times[-1],
               "GB/s": out_bytes / median / 1e6 if median else None, "bit_exact": right, "note": note}
    except Exception as error:  # a row that fails must not take the others with it
        row = {"name": name, "error": f"{type(error).__name__}: {error}"[:400]}
    ROWS.append(row)
    show(row)


def show(row):
    if "error" in row:
        print(f"{row['name']:46} {row['error']}", flush=True)
        return
    exact = {True: "bit-exact", False: "WRONG WEIGHTS", None: ""}[row["bit_exact"]]
    print(f"{row['name']:46} {row['GB/s'] or 0:9.1f} GB/s  median {row['ms']:9.4f} ms "
          f"({row['least_ms']:.4f} to {row['most_ms']:.4f})  {exact} {row['note']}", flush=True)


def same(items):
    def check():
        # Frames also say what became of their blocks.
        return all(bool((item["out"] == item["expected"]).all()) for item in items) and \
            all(int(item["status"].max()) == 0 for item in items if "status" in item)
    return check


def shifted(unit, by):
    """Copies of its parts that begin `by` bytes after an aligned address, as they lie in a file that is mapped whole."""
    copies = {}
    for name in ("luts", "codes", "sm", "positions", "gaps"):
        buffer = cp.empty(unit[name].size + by, cp.uint8)
        buffer[by:] = unit[name]
        copies[name] = buffer[by:]
    return {**copies, "out": unit["out"]}


class Bench:
    """Everything that is timed, on the card."""

    def __init__(self):
        self.card = Card()
        units = read_units(option("--df11"), option("--original"), int(float(option("--most-bytes", 1e15))))
        names = [name for unit in units for name in unit["tensors"]]
        frames = read_frames(option("--rans"), option("--original"), names)
        fasts = [encode_fast(unit["expected"]) for unit in units]
        at_least = float(option("--at-least", 0))
        self.units, self.frames, self.fasts = (copies(items, at_least) for items in (units, frames, fasts))
        self.merge_kernel = cp.RawKernel(MERGE, "merge", options=("--std=c++17",))
        self.outs = [unit["out"] for unit in self.units]
        self.weights = bytes_of(self.units)
        self.paths = {name: best(option("--ptx"), name, self.card.capability)
                      for name in ("df11_decode", "rans_decode", "fast_decode")}

    def describe(self):
        card, kinds = self.card, []
        for name, items in ("units", self.units), ("frames", self.frames), ("of codec dictionary", self.fasts):
            share = sum(item["compressed"] for item in items) / max(bytes_of(items), 1)
            kinds.append(f"{len(items)} {name}, {bytes_of(items):,} bytes of BF16, compressed {share:.4f}")
        print(f"{card.name}, {card.multiprocessors} multiprocessors, compute capability {card.capability / 10}; {'; '.join(kinds)}")

    def batch_row(self, path, entry, items, batch, total, title, each=None, per=1):
        kernel = function(path, entry)
        each = each or occupancy(kernel)
        grid = grid_of(batch.blocks, per, each * self.card.multiprocessors)
        measure(f"{title}, {each} a multiprocessor", total, lambda: batch(kernel, grid), [item["out"] for item in items],
                lambda: same(items)() and batch.is_good(), f"{batch.blocks} blocks, {grid} thread blocks")

    def once(self, name):
        """Launches one kernel once."""
        if name == "published":
            published(function(option("--published"), "decode"), self.units[:1])
        else:
            kind = name.split("_")[0]
            items = {"df11": self.units[:1], "rans": self.frames, "fast": self.fasts[:1]}[kind]
            batch = {"df11": unit_batch, "rans": frame_batch, "fast": fast_batch}[kind](items)
            kernel = function(self.paths[f"{kind}_decode"], name)
            most = occupancy(kernel) * self.card.multiprocessors
            batch(kernel, grid_of(batch.blocks, 1 if kind == "df11" else WARPS, most))
        cp.cuda.runtime.deviceSynchronize()

    def merge(self, exponents, signs, out, n):
        self.merge_kernel((16 * self.card.multiprocessors,), (256,),
                          (address(exponents), address(signs), address(out), np.uint64(n // 8)))

    def copy(self):
        """What the memory gives: bytes read and written."""
        source, target = cp.concatenate(self.outs), cp.empty(self.weights, cp.uint8)
        measure("copy (bytes read + written)", 2 * self.weights, lambda: cp.copyto(target, source), note="the memory's ceiling")

    def merge_of_planes(self):
        """What it gives where two plain planes are merged: 2 bytes read and 2 written a weight."""
        try:
            planes = [(unit["expected"].view(cp.uint16) >> 7 & 0xFF).astype(cp.uint8) for unit in self.units]

            def run():
                for unit, exponents in zip(self.units, planes):
                    self.merge(exponents, unit["sm"], unit["out"], unit["n"])

            def check():
                ends = [(unit, unit["n"] // 8 * 16) for unit in self.units]
                return all(bool((unit["out"][:end] == unit["expected"][:end]).all()) for unit, end in ends)

            measure("merge of two plain planes", self.weights, run, self.outs, check,
                    "the ceiling of any decoder that reads a byte of code for each exponent")
        except Exception as error:
            print("merge:", error)

    def batches(self):
        """Many items in one launch: what engines call."""
        batches = {"df11": (self.units, unit_batch(self.units), 1), "rans": (self.frames, frame_batch(self.frames), WARPS),
                   "fast": (self.fasts, fast_batch(self.fasts), WARPS)}
        for kind, (items, batch, per) in batches.items():
            name, total = f"{kind}_decode", bytes_of(items)
            for each in (None, 2, 3, 4, 6, 8):
                title = f"{name}_batch, everything in one launch"
                self.batch_row(self.paths[name], f"{name}_batch", items, batch, total, title, each, per)
            for path in variants(name):
                try:
                    title = f"variant {os.path.basename(path)}"
                    self.batch_row(path, f"{name}_batch", items, batch, total, title, per=per)
                except Exception as error:
                    print(f"{path}:", f"{type(error).__name__}: {error}"[:300])

    def one_at_a_time(self):
        kernel, path = function(self.paths["df11_decode"], "df11_decode"), self.paths["df11_decode"]
        measure("df11_decode, a launch a unit, tables made there", self.weights,
                lambda: df11(kernel, self.units, self.card), self.outs, same(self.units))
        sizes = sorted({unit["n"]: unit for unit in self.units}.items())
        for n, unit in sizes[:1] + sizes[-1:] if len(sizes) > 1 else sizes:
            title = f"df11_decode_batch, one unit of {n}"
            self.batch_row(path, "df11_decode_batch", [unit], unit_batch([unit]), 2 * n, title)
            if option("--published"):
                other = function(option("--published"), "decode")
                measure(f"published, one unit of {n}", 2 * n, lambda: published(other, [unit]), [unit["out"]], same([unit]))
        for by in (8, 1):
            some = self.units[:1]
            some[0]["shifted"] = shifted(some[0], by)
            self.batch_row(path, "df11_decode_batch", some, unit_batch(some, by), 2 * some[0]["n"],
                           f"df11_decode_batch, one unit, parts {by} bytes off")
            del some[0]["shifted"]

    def graph(self):
        try:
            kernel, batch = function(self.paths["df11_decode"], "df11_decode_batch"), unit_batch(self.units)
            grid = grid_of(batch.blocks, 1, occupancy(kernel) * self.card.multiprocessors)
            stream = cp.cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                batch(kernel, grid)
                graph = stream.end_capture()
            for _ in range(100):
                graph.launch(stream)
            stream.synchronize()
            print("a captured graph, launched 100 times:", "bit-exact" if same(self.units)() else "WRONG WEIGHTS")
            measure("df11_decode_batch, as a graph", self.weights, lambda: graph.launch(stream), self.outs, same(self.units),
                    stream=stream)
        except Exception as error:
            print("graph:", f"{type(error).__name__}: {error}"[:300])

    def one_tensor(self):
        """One tensor of 4096 x 4096, and the same weights in smaller chunks of rANS."""
        unit = max(self.units, key=lambda unit: unit["n"])
        some = unit["expected"][: 2 << 24]
        if some.size == 2 << 24:
            fast = encode_fast(some)
            self.batch_row(self.paths["fast_decode"], "fast_decode_batch", [fast], fast_batch([fast]), some.size,
                           "fast_decode_batch, 4096 x 4096", per=WARPS)
            weights = some.view(cp.uint16)
            exponents = (weights >> 7 & 0xFF).astype(cp.uint8)
            signs, to = (weights >> 8 & 0x80 | weights & 0x7F).astype(cp.uint8), cp.empty(some.size, cp.uint8)
            measure("merge of two plain planes, 4096 x 4096", some.size, lambda: self.merge(exponents, signs, to, 1 << 24), [to])
            for size in (65536, 16384, 8192, 4096):
                frame = encode_blocks(some, size)
                self.batch_row(self.paths["rans_decode"], "rans_decode_batch", [frame], frame_batch([frame]), some.size,
                               f"rans_decode_batch, 4096 x 4096, chunks of {size}", per=WARPS)
        for size in (65536, 16384, 8192, 4096):
            if time.time() - STARTED > LIMIT or unit["n"] < 64 * size:
                continue
            frame = encode_blocks(unit["expected"], size)
            share = frame["compressed"] / bytes_of([frame])
            self.batch_row(self.paths["rans_decode"], "rans_decode_batch", [frame], frame_batch([frame]), bytes_of([frame]),
                           f"rans_decode_batch, chunks of {size} ({share:.4f})", per=WARPS)
            for path in variants("rans_decode"):
                self.batch_row(path, "rans_decode_batch", [frame], frame_batch([frame]), bytes_of([frame]),
                               f"variant {os.path.basename(path)}, chunks of {size}", per=WARPS)
            del frame


def bytes_of(items):
    """Bytes of BF16 weights."""
    return 2 * sum(item["n"] for item in items)


def variants(name):
    return sorted(glob.glob(os.path.join(option("--variants", "/nowhere"), f"{name}*.ptx")))


def main():
    bench = Bench()
    bench.describe()
    if option("--once"):
        bench.once(option("--once"))
        return
    bench.copy()
    bench.merge_of_planes()
    if option("--published"):
        kernel = function(option("--published"), "decode")
        measure("published", bench.weights, lambda: published(kernel, bench.units), bench.outs, same(bench.units))
    bench.batches()
    bench.one_at_a_time()
    bench.graph()
    bench.one_tensor()
    save()
    nvcomp(bench.units[0])


def save():
    """Before nvCOMP is there, which may take the process with it when that ends."""
    if option("--json"):
        with open(option("--json"), "a") as out:
            out.write(json.dumps({"card": Card().name, "arguments": sys.argv[1:], "rows": ROWS}) + "\n")


def nvcomp(unit):
    """nvCOMP's ANS on the exponents alone: without signs, mantissas and merging, so more than a whole decoder reaches."""
    try:
        import nvidia

        # Other packages of NVIDIA's may have made a package of their own of this name.
        for folder in sys.path:
            if os.path.isdir(os.path.join(folder, "nvidia", "nvcomp")) and hasattr(nvidia.__path__, "append"):
                nvidia.__path__.append(os.path.join(folder, "nvidia"))
        from nvidia import nvcomp as library
    except Exception as error:
        print(f"nvCOMP is not here: {error}"[:200])
        return
    exponents = (unit["expected"].view(cp.uint16) >> 7 & 0xFF).astype(cp.uint8)
    try:
        stream = cp.cuda.Stream(non_blocking=True)
        cp.cuda.runtime.deviceSynchronize()
        codec = library.Codec(algorithm="ANS", data_type="|u1", cuda_stream=stream.ptr)
        # Its destructor crashes after the row has been measured.
        KEPT.append((stream, codec))
        compressed = codec.encode(library.as_array(exponents, cuda_stream=stream.ptr))
        config = codec.decompression_config(compressed)
        target = cp.empty(exponents.size, cp.uint8)
        stream.synchronize()
        size = getattr(compressed, "buffer_size", 0)
        measure("nvCOMP ANS, exponents alone (as BF16 GB/s)", 2 * exponents.size,
                lambda: codec.decode(compressed, out=target, decompression_config=config), [target],
                lambda: bool((target == exponents).all()), f"{size / exponents.size:.4f} of the exponents", stream=stream)
    except Exception as error:
        print("nvCOMP:", f"{type(error).__name__}: {error}"[:400])


MERGE = r"""
extern "C" __global__ void merge(const uint2 *exponents, const uint2 *sm, uint4 *out, unsigned long long n) {
    for (unsigned long long i = blockIdx.x * 256ull + threadIdx.x; i < n; i += gridDim.x * 256ull) {
        uint2 e = exponents[i], s = sm[i];
        unsigned w[4], es[4] = {__byte_perm(e.x, 0, 0x4140), __byte_perm(e.x, 0, 0x4342), __byte_perm(e.y, 0, 0x4140),
                                __byte_perm(e.y, 0, 0x4342)},
                 ss[4] = {__byte_perm(s.x, 0, 0x4140), __byte_perm(s.x, 0, 0x4342), __byte_perm(s.y, 0, 0x4140),
                          __byte_perm(s.y, 0, 0x4342)};
        for (int k = 0; k < 4; k++) w[k] = (ss[k] & 0x00800080u) << 8 | es[k] << 7 | (ss[k] & 0x007f007fu);
        out[i] = make_uint4(w[0], w[1], w[2], w[3]);
    }
}
"""

if __name__ == "__main__":
    if "--df11" not in sys.argv:
        sys.exit(__doc__)
    main()
    sys.stdout.flush()
    # Without the destructors of foreign libraries, which may crash.
    os._exit(1 if any(row.get("bit_exact") is False for row in ROWS) else 0)
