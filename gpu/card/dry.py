"""A stand-in for CuPy without a card: arrays are NumPy's, kernels run in the emulator. It is as
small as gemv.py and what that uses of coded.py allow, and slow: for a dry run on little weights.

All arrays whose address is asked for lie in one piece of memory, which is the emulator's only
buffer. Needs `cargo build --release -p df11-gpu-lab --example launch`, and, for kernels that are
compiled when they are used, the compiler that gpu/ptx/build.sh fetches.
"""
import glob
import hashlib
import os
import subprocess
import sys
import tempfile
import types

import numpy as np

BASE = 0x7000_0000_0000
MEMORY = np.zeros(int(os.environ.get("DRY_BYTES", 96 << 20)), np.uint8)
ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
LAUNCH = os.environ.get("DRY_LAUNCH", os.path.join(ROOT, "target/release/examples/launch"))
FOLDER = tempfile.mkdtemp(prefix="dry-")
NEXT, TWINS = [0], {}


class Pointer:
    def __init__(self, ptr):
        self.ptr = ptr


class Array(np.ndarray):
    @property
    def data(self):
        at = self.__array_interface__["data"][0] - MEMORY.__array_interface__["data"][0]
        if 0 <= at < MEMORY.size:
            return Pointer(BASE + at)
        # What NumPy has computed is elsewhere: a copy, which nobody changes any more.
        if id(self) not in TWINS:
            TWINS[id(self)] = (self, place(np.ascontiguousarray(self)))
        return TWINS[id(self)][1].data

    def get(self):
        return np.asarray(self)


def empty(shape, dtype=np.float64):
    dtype, count = np.dtype(dtype), int(np.prod(shape))
    begin = -(-NEXT[0] // 256) * 256
    NEXT[0] = begin + count * dtype.itemsize
    if NEXT[0] > MEMORY.size:
        raise MemoryError("DRY_BYTES is too little")
    return MEMORY[begin : NEXT[0]].view(dtype).reshape(shape).view(Array)


def place(array):
    to = empty(array.shape, array.dtype)
    to[...] = array
    return to


def full(shape, value, dtype):
    array = empty(shape, dtype)
    array.fill(value)
    return array


class Kernel:
    """A kernel of a PTX file."""

    def __init__(self, path, entry):
        self.path, self.entry, self.kernel = path, entry, types.SimpleNamespace(ptr=0)
        self.max_dynamic_shared_size_bytes = 0

    def __call__(self, grid, block, arguments, shared_mem=0):
        texts = [str(int(a.data.ptr) if isinstance(a, np.ndarray) and a.ndim else int(a)) for a in arguments]
        path = os.path.join(FOLDER, "memory")
        MEMORY[: NEXT[0]].tofile(path)
        command = [LAUNCH, self.path, self.entry, str(grid[0]), str(block[0]), str(shared_mem), path, *texts]
        done = subprocess.run(command, capture_output=True, text=True)
        MEMORY[: NEXT[0]] = np.fromfile(path, np.uint8)
        if done.returncode:
            raise RuntimeError(f"{self.entry}: {(done.stdout + done.stderr).strip()}")


class Module:
    def __init__(self, path=None, code=None, options=()):
        self.path = path
        if code is not None:
            name = os.path.join(FOLDER, hashlib.sha256(code.encode()).hexdigest()[:16])
            with open(name + ".cu", "w") as out:
                out.write(code)
            compiler = glob.glob(os.path.join(ROOT, "target/cuda/lib/python*/site-packages/nvidia/*/bin/nvcc"))[0]
            subprocess.run([compiler, "-ptx", "-arch=sm_90", name + ".cu", "-o", name + ".ptx"], check=True)
            self.path = name + ".ptx"

    def get_function(self, entry):
        return Kernel(self.path, entry)


class Graph:
    def launch(self, stream=None):
        pass


class Stream:
    ptr = 0

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        return False

    begin_capture = synchronize = lambda self: None
    end_capture = lambda self: Graph()


class Event:
    record = lambda self, stream=None: None
    synchronize = lambda self: None


def gemm(handle, ta, tb, rows, vectors, columns, alpha, w, wt, lw, x, xt, lx, beta, y, yt, ly, compute, algorithm):
    """`gemmEx` as gemv.py calls it."""
    bits = lambda at, n: MEMORY[at - BASE : at - BASE + 2 * n].view(np.uint16)
    wide = lambda bits: (bits.astype(np.uint32) << 16).view(np.float32)
    sums = wide(bits(x, vectors * columns)).reshape(vectors, columns) @ wide(bits(w, rows * columns)).reshape(rows, columns).T
    whole = np.ascontiguousarray(sums).view(np.uint32)
    bits(y, vectors * rows)[:] = (whole + 0x7FFF + (whole >> 16 & 1) >> 16).astype(np.uint16).reshape(-1)


def install():
    """Makes this module what `import cupy` finds."""
    cupy = types.ModuleType("cupy")
    for name in ("bincount", "concatenate", "cumsum", "where", "ascontiguousarray", "uint8", "uint16", "uint32", "uint64",
                 "float32", "float64", "bool_", "copyto", "random"):
        setattr(cupy, name, getattr(np, name))
    cupy.concatenate = lambda arrays: np.concatenate(arrays).view(Array)
    cupy.cumsum = lambda array: np.cumsum(array).view(Array)
    cupy.asnumpy = np.asarray
    cupy.asarray = lambda array, dtype=None: place(np.asarray(array, dtype))
    cupy.empty, cupy.full = empty, full
    cupy.zeros = lambda shape, dtype=np.float64: full(shape, 0, dtype)
    cupy.RawModule = Module
    cuda = types.ModuleType("cupy.cuda")
    cuda.Stream, cuda.Event, cuda.get_elapsed_time = Stream, Event, lambda start, end: 1.0
    cuda.Device = lambda: types.SimpleNamespace(id=0)
    properties = {"name": b"no card", "multiProcessorCount": 4, "major": 9, "minor": 0}
    cuda.runtime = types.SimpleNamespace(deviceSynchronize=lambda: None, getDeviceProperties=lambda number: properties,
                                         getDeviceCount=lambda: 1)
    cuda.driver = types.SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda kernel, threads, shared: 3)
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: 0)
    cupy.cuda = cuda
    blas = types.SimpleNamespace(setStream=lambda handle, stream: None, gemmEx=gemm)
    libs = types.ModuleType("cupy_backends.cuda.libs")
    libs.cublas = blas
    sys.modules |= {"cupy": cupy, "cupy.cuda": cuda, "cupy_backends": types.ModuleType("cupy_backends"),
                    "cupy_backends.cuda": types.ModuleType("cupy_backends.cuda"), "cupy_backends.cuda.libs": libs}
