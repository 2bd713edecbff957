#!/usr/bin/env python3
"""Times what a token costs: products of compressed matrices with one vector or a few, on a card.

gemv.py --df11 DIR --original FILE --ptx DIR [--published FILE] [--variants DIR] [--json FILE]
        [--blocks N] [--vectors 1,2,4,8] [--repetitions N] [--seconds S] [--only WORDS] [--once KERNEL] [--dry]

--df11       what `df11 compress --codec df11` made of a checkpoint of weights.py
--original   its safetensors file
--ptx        PTX of all kernels; the best for the card is taken
--variants   more PTX files, whose names begin with that of a kernel: rows of their own
--blocks     transformer blocks to take (3), which are more than a cache holds
--vectors    numbers of vectors that are multiplied at a time
--only       rows whose names have one of these words, which commas divide
--once       launch a kernel once and end (for ncu): plain_gemv, fast_gemv or df11_gemv
--seconds    stop beginning new rows after so long
--json       a file to which the rows are appended, as one line
--dry        without a card: NumPy for CuPy, and kernels in the emulator (dry.py)

A row is all linear layers of the blocks, one after the other, as a captured graph; the time is the
median of all repetitions by events, times 32 over the number of blocks: ms for a token of
Llama-3.1-8B, without its last layer. Each row is its own: one that fails does not end the others.
"""
import ctypes
import glob
import json
import os
import re
import sys
import time
from itertools import product

if "--dry" in sys.argv:
    import dry

    dry.install()

import cupy as cp
import numpy as np

import coded
from coded import address, option

STARTED = time.time()
REPETITIONS, LIMIT = int(option("--repetitions", 20)), float(option("--seconds", 1e9))
TOKEN_BLOCKS = 32
MOST_VECTORS = 8
SEGMENT, BLOCK_ELEMENTS = 1024, 8192
ROWS, SAVED, POSITIONS = [], [], {}

# The linear layers of a transformer block: what engines multiply in one launch.
GROUPS = [
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
]


class Matrix:
    """A tensor of a unit: where it is in there, its vectors and its results."""

    def __init__(self, unit, name, shape, offset, vectors):
        self.unit, self.name, self.offset = unit, name, offset
        self.rows, self.columns = shape
        self.n = self.rows * self.columns
        self.x = vectors[self.columns]
        self.y = cp.zeros(MOST_VECTORS * self.rows, cp.uint16)

    def at(self, key="expected"):
        """The address of its plain weights."""
        return int(address(self.unit[key])) + 2 * self.offset


def read_matrices(units, original):
    """For each unit its matrices by group."""
    plain, _ = coded.header(original)
    generator = np.random.default_rng(5)
    vectors, found = {}, []
    for unit in units:
        offset, matrices = 0, {}
        for name in unit["tensors"]:
            shape = plain[name]["shape"]
            if shape[1] not in vectors:
                numbers = generator.standard_normal(MOST_VECTORS * shape[1]).astype(np.float32)
                bits = numbers.view(np.uint32)
                vectors[shape[1]] = cp.asarray((bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16))
            key = re.sub(r"^.*\.(\w+\.\w+)\.weight$", r"\1", name)
            matrices[key] = Matrix(unit, name, shape, offset, vectors)
            offset += shape[0] * shape[1]
        found.append([[matrices[key] for key in group] for group in GROUPS])
    return found


# Products in one launch.

class Launches:
    """The launches of a kernel for some groups of matrices."""

    def __init__(self, groups, vectors, describe, words, has_status, per=1):
        self.per = per
        self.parts, self.kept, self.vectors, self.has_status = [], [], vectors, has_status
        for group in groups:
            rows, first = [], 0
            for matrix in group:
                pieces = cp.zeros(vectors * (-(-matrix.n // SEGMENT) + matrix.rows), cp.float32)
                arrived = cp.zeros(vectors * matrix.rows, cp.uint32)
                own, blocks = describe(matrix)
                row = [int(address(matrix.x)), int(address(matrix.y)), 0, 0, int(address(pieces)),
                       int(address(arrived)), matrix.columns, matrix.rows, matrix.rows | matrix.columns << 32,
                       first | blocks << 32, 0, 0] + own
                assert len(row) == words
                rows.append(row)
                first += blocks
                self.kept += [pieces, arrived]
            items = cp.asarray(np.array(rows, np.uint64))
            status = cp.full(len(rows), 0xFFFFFFFF, cp.uint32)
            self.parts.append((items, len(rows), first, status))

    def __call__(self, kernel, most, is_full=False):
        for items, number, blocks, status in self.parts:
            grid = coded.grid_of(blocks, self.per, most, is_full)
            arguments = (address(items), np.uint32(number), np.uint32(blocks), np.uint64(0), np.uint64(0),
                         np.uint32(self.vectors))
            kernel((grid,), (coded.THREADS,), arguments + ((address(status),) if self.has_status else ()))

    def is_good(self):
        return all(bool((status == 0xFFFFFFFF).all()) for *_, status in self.parts)


def plain_launches(groups, vectors):
    even = lambda matrix: -(-matrix.n // BLOCK_ELEMENTS)
    return Launches(groups, vectors, lambda matrix: ([matrix.at(), 0], even(matrix)), 14, False)


def fast_launches(groups, vectors):
    def describe(matrix):
        fast, first = matrix.unit["fast"], matrix.offset // 4096
        own = [int(address(fast["entries"])), int(address(fast["codes"])), int(address(fast["offsets"])) + 4 * first,
               int(address(fast["planes"])) + matrix.offset, matrix.n // 4096 | 12 << 32, 0]
        return own, matrix.n // 4096
    return Launches(groups, vectors, describe, 18, True, coded.WARPS)


def unit_launches(groups, vectors):
    def describe(matrix):
        unit, first = matrix.unit, matrix.offset
        if id(unit) not in POSITIONS:
            POSITIONS[id(unit)] = cp.asnumpy(unit["positions"]).view(np.uint32)
        begin = int(np.searchsorted(POSITIONS[id(unit)], first, "right")) - 1
        end = int(np.searchsorted(POSITIONS[id(unit)], first + matrix.n, "left"))
        own = [int(address(unit[name])) for name in ("table", "luts", "codes", "sm", "positions", "gaps")]
        return own + [0, unit["n_luts"], unit["n_bytes"], unit["n"], 0, 0, first, begin], min(end, unit["blocks"]) - begin
    return Launches(groups, vectors, describe, 26, True)


KINDS = {"plain_gemv": plain_launches, "fast_gemv": fast_launches, "df11_gemv": unit_launches}


# cuBLAS.

class Blas:
    """BF16 products with F32 accumulation by cuBLAS: by its library, since CuPy refuses to call it while a stream is captured;
    failing that, through CuPy."""

    def __init__(self):
        self.one, self.zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        self.problems = []
        for make in (self._of_library, self._of_cupy):
            try:
                make()
                return
            except Exception as error:
                self.problems.append(f"{make.__name__}: {type(error).__name__}: {error}")
        raise RuntimeError("; ".join(self.problems))

    def _of_cupy(self):
        from cupy.cuda import device
        from cupy_backends.cuda.libs import cublas

        handle = device.get_cublas_handle()
        # CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT
        def run(stream, rows, vectors, columns, w, x, y):
            cublas.setStream(handle, stream.ptr)
            cublas.gemmEx(handle, 1, 0, rows, vectors, columns, self.one.ctypes.data, w, 14, columns, x, 14, columns,
                          self.zero.ctypes.data, y, 14, rows, 68, -1)
        self.run, self.way = run, "CuPy"

    def _of_library(self):
        # The one that CuPy has, if it has loaded one.
        try:
            cp.cuda.device.get_cublas_handle()
        except Exception:
            pass
        loaded = sorted({line.split()[-1] for line in open("/proc/self/maps") if "libcublas.so" in line})
        names = loaded + ["libcublas.so.13", "libcublas.so.12"] + sorted(glob.glob("/usr/local/cuda*/lib64/libcublas.so*"))
        library = next((found for found in map(load, names) if found), None)
        if library is None:
            raise RuntimeError(f"none of {names}")
        handle, size = ctypes.c_void_p(), 32 << 20
        if library.cublasCreate_v2(ctypes.byref(handle)):
            raise RuntimeError("cublasCreate")
        # Of our own, as captures need.
        self.workspace = cp.empty(size, cp.uint8)
        workspace, pointer = ctypes.c_void_p(int(address(self.workspace))), ctypes.c_void_p
        one, zero = pointer(self.one.ctypes.data), pointer(self.zero.ctypes.data)
        def run(stream, rows, vectors, columns, w, x, y):
            code = library.cublasSetStream_v2(handle, pointer(stream.ptr)) or \
                library.cublasSetWorkspace_v2(handle, workspace, ctypes.c_size_t(size)) or \
                library.cublasGemmEx(handle, 1, 0, rows, vectors, columns, one, pointer(w), 14, columns, pointer(x), 14,
                                     columns, zero, pointer(y), 14, rows, 68, -1)
            if code:
                raise RuntimeError(f"cuBLAS: {code}")
        self.run, self.way = run, f"its library {library._name}"

    def multiply(self, stream, group, vectors, key="expected", merged=False):
        """The products of a group: one for each matrix, or one if they follow each other."""
        follow = all(b.offset == a.offset + a.n for a, b in zip(group, group[1:]))
        if merged and follow:
            rows = sum(matrix.rows for matrix in group)
            if "merged" not in group[0].__dict__:
                group[0].merged = cp.zeros(MOST_VECTORS * rows, cp.uint16)
            self.run(stream, rows, vectors, group[0].columns, group[0].at(key), int(address(group[0].x)),
                     int(address(group[0].merged)))
            return
        for matrix in group:
            self.run(stream, matrix.rows, vectors, matrix.columns, matrix.at(key), int(address(matrix.x)),
                     int(address(matrix.y)))


def load(name):
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


# Rows.

def measure(name, vectors, weights, scale, launch, check=None, note=""):
    """Runs it once, checks it, times it as a graph, or as single launches if it cannot be captured."""
    if option("--only") and not any(word in name for word in option("--only").split(",")):
        return
    row = {"name": f"{name}, x{vectors}", "bit_exact": None, "note": note}
    try:
        if time.time() - STARTED > LIMIT:
            raise TimeoutError("not begun: no time left")
        stream = cp.cuda.Stream(non_blocking=True)
        cp.cuda.runtime.deviceSynchronize()
        with stream:
            launch(stream)
        cp.cuda.runtime.deviceSynchronize()
        if check:
            row["bit_exact"], told = check()
            row["note"] = f"{note} {told}".strip()
        run = graph_of(launch, stream, row)
        times = []
        for i in range(REPETITIONS + 2):
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record(stream)
            run()
            end.record(stream)
            end.synchronize()
            times.append(cp.cuda.get_elapsed_time(start, end))
        times = sorted(times[2:])
        median = times[len(times) // 2]
        row |= {"ms": median * scale, "least_ms": times[0] * scale, "most_ms": times[-1] * scale,
                "GB/s": 2 * weights / median / 1e6 if median else None}
    except Exception as error:  # a row that fails must not take the others with it
        row["error"] = f"{type(error).__name__}: {error}"[:300]
    ROWS.append(row)
    show(row)


def graph_of(launch, stream, row):
    try:
        with stream:
            stream.begin_capture()
            try:
                launch(stream)
            finally:
                graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        return lambda: graph.launch(stream)
    except Exception as error:
        row["note"] += f" [no graph: {type(error).__name__}: {error}]"[:120]
        def run():
            with stream:
                launch(stream)
        return run


def show(row):
    head = f"{row['name']:56}"
    if "error" in row:
        print(f"{head} {row['error']}", flush=True)
        return
    right = {True: "right", False: "WRONG", None: ""}[row["bit_exact"]]
    print(f"{head} {row['ms']:8.3f} ms a token ({row['least_ms']:.3f} to {row['most_ms']:.3f}) "
          f"{row['GB/s'] or 0:8.1f} GB/s of BF16  {right} {row['note']}", flush=True)


def save():
    if option("--json"):
        with open(option("--json"), "a") as out:
            out.write(json.dumps({"card": coded.Card().name, "arguments": sys.argv[1:], "rows": ROWS}) + "\n")


# Checks.

def exact(matrix, vectors, rows):
    """The first results in F64, and the sums of magnitudes."""
    bits = matrix.unit["expected"][2 * matrix.offset : 2 * (matrix.offset + rows * matrix.columns)].view(cp.uint16)
    wide = lambda bits: (bits.astype(cp.uint32) << 16).view(cp.float32).astype(cp.float64)
    w, x = wide(bits).reshape(rows, matrix.columns), wide(matrix.x[: vectors * matrix.columns])
    x = x.reshape(vectors, matrix.columns)
    return x @ w.T, abs(x) @ abs(w).T


def worst(matrices, vectors, results):
    """The largest error, of the sum of magnitudes, in the first rows of each matrix."""
    most = 0.0
    for matrix in matrices:
        rows = min(64, matrix.rows)
        sums, magnitudes = exact(matrix, vectors, rows)
        found = results(matrix)[: vectors * matrix.rows].reshape(vectors, matrix.rows)[:, :rows]
        found = (cp.ascontiguousarray(found).astype(cp.uint32) << 16).view(cp.float32).astype(cp.float64)
        most = max(most, float((abs(found - sums) / magnitudes).max()))
    return most


def check_of(matrices, vectors, launches=None):
    """The results of plain_gemv come first, and are compared with F64; all others with its bits."""
    def check():
        told = launches.is_good() if launches else True
        if not SAVED or SAVED[0] != vectors:
            SAVED[:] = [vectors, [matrix.y.copy() for matrix in matrices]]
            error = worst(matrices, vectors, lambda matrix: matrix.y)
            return told and error < 0.01, f"error {error:.2e}"
        used = lambda array, matrix: array[: vectors * matrix.rows]
        same = [bool((used(matrix.y, matrix) == used(saved, matrix)).all()) for matrix, saved in zip(matrices, SAVED[1])]
        return told and all(same), "bits of plain_gemv" if all(same) else f"{same.count(False)} matrices differ"
    return check


def close(matrices, vectors, merged):
    """For sums in an order that is not ours."""
    def check():
        if merged:
            return None, ""
        error = worst(matrices, vectors, lambda matrix: matrix.y)
        return error < 0.01, f"error {error:.2e}"
    return check


def main():
    card, blocks = coded.Card(), int(option("--blocks", 3))
    units = coded.read_units(option("--df11"), option("--original"), 1e18)[-blocks:]
    blocks = len(units)
    weights, scale = sum(unit["n"] for unit in units), TOKEN_BLOCKS / blocks
    for unit in units:
        unit["fast"] = coded.encode_fast(unit["expected"])
    token = read_matrices(units, option("--original"))
    groups = [group for block in token for group in block]
    matrices = [matrix for group in groups for matrix in group]
    share = lambda size: size / (2 * weights)
    print(f"{card.name}, {card.multiprocessors} multiprocessors; {blocks} transformer blocks, {weights:,} weights; DF11 "
          f"{share(sum(u['compressed'] for u in units)):.4f}, dictionary {share(sum(u['fast']['compressed'] for u in units)):.4f}")
    try:
        blas = Blas()
        print("cuBLAS through", blas.way, *blas.problems)
    except Exception as error:
        blas = None
        print("no cuBLAS:", error)
    ptx = option("--ptx")
    best = lambda kernel: coded.best(ptx, kernel, card.capability)

    def gemv_rows(kind, path, name, vectors, per_processor=(None,)):
        room = next(room for room in (1, 2, 4, 8) if room >= vectors)
        try:
            kernel = coded.function(path, f"{kind}_{room}")
            fit = coded.occupancy(kernel)
            launches = KINDS[kind](groups, vectors)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}"[:300])
            return
        for each, is_full in product(per_processor, (True, False) if vectors == 1 else (True,)):
            each = each or fit
            for matrix in matrices:
                matrix.y.fill(0xABAB)
            measure(f"{name}, {each} a multiprocessor{'' if is_full else ', even rounds'}", vectors, weights, scale,
                    lambda stream: launches(kernel, each * card.multiprocessors, is_full),
                    check_of(matrices, vectors, launches))

    def decoded_rows(vectors):
        outs = {}
        if option("--published"):
            kernel = coded.function(option("--published"), "decode")
            outs["published DF11 + cuBLAS"] = lambda unit, kernel=kernel: coded.published(kernel, [unit])
        for kind, batch_of in (("df11", lambda u: coded.unit_batch([u])), ("fast", lambda u: coded.fast_batch([u["fast_out"]]))):
            for unit in units:
                unit["fast_out"] = {**unit["fast"], "out": unit["out"]}
            kernel = coded.function(best(f"{kind}_decode"), f"{kind}_decode_batch")
            batches = {id(unit): batch_of(unit) for unit in units}
            most, per = coded.occupancy(kernel) * card.multiprocessors, 1 if kind == "df11" else coded.WARPS
            def run(unit, kernel=kernel, batches=batches, most=most, per=per):
                batch = batches[id(unit)]
                batch(kernel, coded.grid_of(batch.blocks, per, most))
            outs[f"{kind}_decode_batch + cuBLAS"] = run
        for name, decode in outs.items():
            def launch(stream, decode=decode):
                for unit, block in zip(units, token):
                    decode(unit)
                    for group in block:
                        blas.multiply(stream, group, vectors, "out")
            for unit in units:
                unit["out"].fill(0xAB)
            measure(name, vectors, weights, scale, launch, close(matrices, vectors, False))

    once = option("--once")
    if once:
        # The gate and up projections, for ncu.
        launches = KINDS[once](groups[2:3], 1)
        kernel = coded.function(best(once), f"{once}_1")
        launches(kernel, coded.occupancy(kernel) * card.multiprocessors, True)
        cp.cuda.runtime.deviceSynchronize()
        return

    def rows(vectors):
        SAVED.clear()
        gemv_rows("plain_gemv", best("plain_gemv"), "plain_gemv", vectors)
        if blas:
            for merged in (False, True):
                def launch(stream, merged=merged):
                    for group in groups:
                        blas.multiply(stream, group, vectors, merged=merged)
                measure(f"cuBLAS BF16, {4 if merged else 7} products a block", vectors, weights, scale, launch,
                        close(matrices, vectors, merged))
        for kind in ("fast_gemv", "df11_gemv"):
            if kind in KINDS and best(kind):
                gemv_rows(kind, best(kind), kind, vectors, (None, 2) if vectors == 1 else (None,))
        for path in sorted(glob.glob(os.path.join(option("--variants", "/nowhere"), "*_gemv*.ptx"))):
            kind = re.match(r"[a-z0-9]+_gemv", os.path.basename(path))[0]
            if kind in KINDS:
                gemv_rows(kind, path, f"variant {os.path.basename(path)}", vectors)
        if blas:
            decoded_rows(vectors)

    for vectors in map(int, option("--vectors", "1,2,4,8").split(",")):
        try:
            rows(vectors)
        except Exception as error:
            print(f"{vectors} vectors: {type(error).__name__}: {error}"[:300], flush=True)
    save()


if __name__ == "__main__":
    if "--df11" not in sys.argv:
        sys.exit(__doc__)
    main()
    sys.stdout.flush()
    # Without the destructors of foreign libraries, which may crash.
    os._exit(1 if any(row["bit_exact"] is False for row in ROWS) or not (option("--once") or any("ms" in row for row in ROWS)) else 0)
