"""Measures this package beside its peers: bindings/python/measure.py [CHECKPOINT].

Prints seconds and ratios, each the least of some rounds in which everything is measured in turn.
Wants df11, safetensors, zipnn and dfloat11 0.5.0 (without its dependencies) installed, and a quiet
machine.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types

import safetensors.torch
import torch

import df11
import df11.dfloat11 as ours
import df11.torch

CHECKPOINT = pathlib.Path(__file__).resolve().parents[2] / ".corpus" / "bf16" / "model.safetensors"


def least(rounds, work):
    """The least seconds that each of these takes, measured alternately."""
    best = {name: float("inf") for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def load_files(plain, folder):
    """Load a whole file with df11, safetensors and ZipNN."""
    size = plain.stat().st_size
    packed = {}
    for codec in ("df11", "rans", "fast"):
        packed[codec] = folder / f"{codec}.safetensors"
        df11.compress(plain, packed[codec], codec=codec)

    def ours_with(codec, threads):
        return lambda: df11.torch.load_file(packed[codec], threads=threads)

    work = {"safetensors (maps, reads nothing)": lambda: safetensors.torch.load_file(plain)}
    # Every byte of it, as a program that computes with the weights needs it.
    work["safetensors, into memory of its own"] = lambda: [
        tensor.clone() for tensor in safetensors.torch.load_file(plain).values()
    ]
    for threads in (1, 2):
        for codec in packed:
            work[f"df11 {codec}, {threads} threads"] = ours_with(codec, threads)
    sizes = {f"df11 {codec}": path.stat().st_size / size for codec, path in packed.items()}
    with contextlib.suppress(ImportError):
        import zipnn

        data = plain.read_bytes()
        for threads in (1, 2):
            coder = zipnn.ZipNN(bytearray_dtype="bfloat16", threads=threads)
            compressed = bytes(coder.compress(bytearray(data)))
            sizes["ZipNN"] = len(compressed) / size
            path = folder / f"zipnn{threads}"
            path.write_bytes(compressed)

            def load(coder=coder, path=path):
                safetensors.torch.load(bytes(coder.decompress(path.read_bytes())))

            work[f"ZipNN, {threads} threads"] = load
    print(f"load_file, {size:,} bytes")
    for name, seconds in least(9, work).items():
        print(f"  {name:40} {1000 * seconds:8.2f} ms {size / seconds / 1e9:6.2f} GB/s")
    for name, ratio in sizes.items():
        print(f"  {name:40} {100 * ratio:8.2f} % of the file")
    for codec, path in packed.items():
        one_row(codec, path)


def one_row(codec, path):
    """One row of the largest matrix, beside all of it."""
    with df11.safe_open(path, "pt", threads=1) as opened:
        name = max(opened.keys(), key=lambda n: opened._tensors[n].bytes)
        rows = opened.get_slice(name)
        row = rows.get_shape()[0] // 2
        times = least(
            300, {"one row": lambda: rows[row], "the tensor": lambda: opened.get_tensor(name)}
        )
    share = times["one row"] / times["the tensor"]
    micro = 1e6 * times["one row"]
    print(
        f"  get_slice {codec}: a row of {rows.get_shape()} takes {micro:.0f} us, {share:.2%} of all"
    )


@contextlib.contextmanager
def quiet(nowhere):
    """Without what dfloat11 prints, some of it to the output that it found at first."""
    kept = os.dup(1), os.dup(2)
    sys.stdout.flush()
    try:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)


def published():
    """Import the module of dfloat11 without the GPU libraries that it imports at once."""
    cupy, resources = types.ModuleType("cupy"), types.ModuleType("pkg_resources")
    cupy.RawModule = lambda **_: types.SimpleNamespace(get_function=lambda name: None)
    resources.resource_filename = lambda *_: ""
    sys.modules.update(cupy=cupy, pkg_resources=resources)
    import dfloat11.dfloat11

    return dfloat11.dfloat11


def compress_models(folder):
    """Time compress_model of df11 and of dfloat11 on the same module, on one core."""
    patterns = {r"\d+": ["0", "1"]}

    def model():
        torch.manual_seed(0)
        parts = (
            torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(2))) for _ in "ab"
        )
        made = torch.nn.Sequential(*parts).to(torch.bfloat16)
        for parameter in made.parameters():
            parameter.data.normal_(0, 0.02)
        return made

    weights = sum(p.numel() for n, p in model().named_parameters() if n.endswith("weight"))
    times, files = {}, {}
    for name, module in (("dfloat11 0.5.0", published()), ("df11", ours)):
        made, path = model(), folder / name
        arguments = (made, patterns, str(path), [0, 10000], True)
        rounds = 9 if module is ours else 1

        def work(check, module=module, arguments=arguments):
            module.compress_model(*arguments, check)

        with open(os.devnull, "w") as nowhere, quiet(nowhere):
            times[name] = least(rounds, {"": lambda work=work: work(False)})[""]
            if module is ours:
                times["df11, decoded and compared"] = least(rounds, {"": lambda: work(True)})[""]
        files[name] = safetensors.torch.load_file(path / "model.safetensors")
    print(f"compress_model, {2 * weights:,} bytes of weights, {len(os.sched_getaffinity(0))} cores")
    for name, seconds in times.items():
        print(f"  {name:40} {seconds:8.3f} s {2 * weights / seconds / 1e6:9.1f} MB/s")
    print(f"  {times['dfloat11 0.5.0'] / times['df11']:.0f} times as fast")
    theirs, own = files.values()
    assert set(theirs) == set(own), set(theirs) ^ set(own)
    for name, tensor in theirs.items():
        assert (tensor.dtype, tensor.dim()) == (own[name].dtype, own[name].dim()), name
        last = name.rpartition(".")[2]
        if last in ("sign_mantissa", "split_positions", "bias"):
            assert torch.equal(tensor, own[name]), name
    print("  the same names, types and dimensions, and the same signs, mantissas and splits")


def main():
    """Measure everything."""
    if "--one-core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            compress_models(pathlib.Path(folder))
        return
    paths = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with tempfile.TemporaryDirectory() as folder:
        load_files(pathlib.Path(paths[0]) if paths else CHECKPOINT, pathlib.Path(folder))
    subprocess.run([sys.executable, __file__, "--one-core"], check=True)


if __name__ == "__main__":
    main()
