"""Times our codec and other compressors side by side and prints a table. `run.sh` calls it with everything in place.

The codecs live in child processes: `native/` holds those with a C or Rust interface, and this program, called with
`--worker`, those with a Python interface, a process for each package. A child first writes a line that names its
codecs; then, for every codec's name on its input, it makes one round trip, checks it, and writes the size and the
seconds.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

# Every row of the table, in order: the name between programs, the title.
TITLES = {
    "df11": "**df11** (this repository)",
    "frame": "**frames, rANS** (this repository)",
    "fast": "**frames, dictionary** (this repository)",
    "fast-bare": "**dictionary** + merge, no checksums",
    "huff0": "huff0 4X2 + merge",
    "zstd-literals": "zstd, literals only + merge",
    "rans": "htscodecs rANS 32x16 + merge",
    "zipnn": "ZipNN",
    "openzl-huffman": "OpenZL, Huffman",
    "openzl-fse": "OpenZL, FSE",
    "pcodec": "pcodec, level 8",
    "zstd-1": "zstd -1, BF16 as it is",
    "split-merge": "split and merge alone",
    "frame-coded": "**rANS of frames**, exponents alone",
    "fast-coded": "**dictionary**, exponents alone",
    "huff0-coded": "huff0 4X2, exponents alone",
    "rans-coded": "htscodecs rANS 32x16, exponents alone",
}
# Rows of exponents alone are compared with this one.
CODED, OURS_CODED = "-coded", "frame-coded"
OURS = "df11"
ROOFLINE = "split-merge"
WORKERS = {"zipnn": ["zipnn"], "openzl": ["openzl-huffman", "openzl-fse"], "pcodec": ["pcodec"]}


# The Python peers. Each function takes the weights and yields, for each codec, its name and four functions: `prepare`
# makes what `encode` takes, and `view` a buffer of what `decode` returns; only `encode` and `decode` are timed.


def zipnn_codecs(weights):
    # The compiled core alone, called as `ZipNN(bytearray_dtype="bfloat16", threads=1)` calls it: the class around it
    # needs PyTorch, and makes one more copy of the weights.
    import zipnn_core

    header = bytes(32)
    planes, reorder_bits, reorder_bytes, chunk, threads = 2, 1, 10, 1 << 18, 1
    review, threshold, check_percent = 0, 0.95, 10

    def encode(copy):
        return zipnn_core.zipnn_core(
            header, copy, planes, reorder_bits, reorder_bytes, review, chunk, threshold, check_percent, threads
        )

    def decode(coded):
        body = memoryview(coded)[len(header) :]
        return zipnn_core.combine_dtype(body, planes, reorder_bits, reorder_bytes, chunk, len(weights), threads)

    # A copy, since the call splits its input in place.
    yield "zipnn", lambda: bytearray(weights), encode, decode, memoryview


def openzl_codecs(weights):
    import numpy
    import openzl.ext as zl

    array = numpy.frombuffer(weights, dtype=numpy.uint16)
    off = 2  # ZL_TernaryParam_disable

    def codec(name, exponents):
        compressor = zl.Compressor()
        graph = zl.nodes.BFloat16Deconstruct()(compressor, sign_frac=zl.graphs.Store(), exponent=exponents)
        compressor.select_starting_graph(graph)
        context = zl.CCtx()
        context.ref_compressor(compressor)
        context.set_parameter(zl.CParam.StickyParameters, 1)
        context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
        # The frames of the other codecs have no checksums.
        context.set_parameter(zl.CParam.CompressedChecksum, off)
        context.set_parameter(zl.CParam.ContentChecksum, off)
        return (
            name,
            lambda: [zl.Input(zl.Type.Numeric, array)],
            context.compress,
            zl.DCtx().decompress,
            lambda outputs: memoryview(outputs[0].content.as_nparray()).cast("B"),
        )

    yield codec("openzl-huffman", zl.graphs.Huffman())
    yield codec("openzl-fse", zl.graphs.Fse())


def pcodec_codecs(weights):
    import numpy
    from pcodec import ChunkConfig, standalone

    array = numpy.frombuffer(weights, dtype=numpy.uint16)
    restored = numpy.ones_like(array)
    config = ChunkConfig(compression_level=8)

    def decode(coded):
        standalone.simple_decompress_into(coded, restored)
        return restored

    def prepare():
        restored.fill(0xA5A5)  # so that what an earlier round left does not pass for this one's work
        return array

    yield (
        "pcodec",
        prepare,
        lambda array: standalone.simple_compress(array, config),
        decode,
        lambda restored: memoryview(restored).cast("B"),
    )


CODECS = {"zipnn": zipnn_codecs, "openzl": openzl_codecs, "pcodec": pcodec_codecs}


def round_trip(weights, prepare, encode, decode, view):
    source = prepare()
    start = time.perf_counter()
    coded = encode(source)
    encoded = time.perf_counter()
    del source
    middle = time.perf_counter()
    restored = decode(coded)
    end = time.perf_counter()
    if view(restored) != weights:
        raise ValueError("the restored weights differ")
    return {"size": len(coded), "encode": encoded - start, "decode": end - middle}


def worker(package, path):
    """Serves the codecs of one package, as the head of this file says; whatever it raises is a reason to print."""
    with open(path, "rb") as file:
        weights = memoryview(file.read())
    gc.disable()  # a collection within a timed call would count against the codec
    ready, unavailable = {}, []
    try:
        version = importlib.metadata.version(package)
        for name, *calls in CODECS[package](weights):
            try:
                round_trip(weights, *calls)
                ready[name] = calls
            except Exception as error:
                unavailable.append({"name": name, "reason": describe(error)})
    except Exception as error:
        version = ""
        missing = [name for name in WORKERS[package] if name not in ready]
        unavailable = [{"name": name, "reason": describe(error)} for name in missing]
    print(
        json.dumps({"peers": [{"name": name, "version": version} for name in ready], "unavailable": unavailable}),
        flush=True,
    )
    for line in sys.stdin:
        try:
            answer = round_trip(weights, *ready[line.strip()])
        except Exception as error:
            answer = {"error": describe(error)}
        print(json.dumps(answer), flush=True)


def describe(error):
    return f"{type(error).__name__}: {error}"


# The driver.


class Child:
    """A process that times codecs."""

    def __init__(self, command):
        # Peers that allocate what they return get memory that they used in the round before: otherwise the kernel hands
        # out, and zeroes, every page anew, and its time is most of what is measured. NumPy's arrays get pages of the
        # same size as everybody's.
        environment = os.environ | {
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
            "MALLOC_TOP_PAD_": str(1 << 28),
            "NUMPY_MADVISE_HUGEPAGE": "0",
        }
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, name):
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
            return self.answer()
        except (OSError, RuntimeError, ValueError) as error:
            return {"error": str(error)}

    def close(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it died before it read everything
        self.process.wait()


def bf16_of(path):
    """The bytes of every BF16 tensor of a safetensors file, in the order of the file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__" and tensor["dtype"] == "BF16"]
    ranges = sorted(tensor["data_offsets"] for tensor in tensors)
    return b"".join(data[start:end] for start, end in ranges)


def cpu_model():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def pin():
    """Keeps this process and its children to one core, so that one thread is all that anything can use."""
    try:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        return len(cores), True
    except (AttributeError, OSError):
        return os.cpu_count(), False


def start(native, weights):
    """New processes: the child of each codec that works, the versions, and what does not work, with the reason."""
    in_python = {name for names in WORKERS.values() for name in names}
    children = [(Child([native, weights]), [name for name in TITLES if name not in in_python])]
    for package, names in WORKERS.items():
        children.append((Child([sys.executable, __file__, "--worker", package, weights]), names))
    homes, versions, unavailable = {}, {}, {}
    for child, names in children:
        try:
            hello = child.answer()
        except (RuntimeError, ValueError) as error:
            unavailable |= {name: str(error) for name in names}
            continue
        for peer in hello["peers"]:
            homes[peer["name"]], versions[peer["name"]] = child, peer["version"]
        unavailable |= {peer["name"]: peer["reason"] for peer in hello["unavailable"]}
    return [child for child, _ in children], homes, versions, unavailable


def measure(native, weights, rounds, progress):
    """The rounds of every codec that worked in all of them, its version, and what did not work, with the reason."""
    timed = {name: [] for name in TITLES}
    versions, unavailable = {}, {}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        # New processes each time: a codec can be slow as long as its process lives (one was seen at half its speed),
        # presumably by where its buffers happen to lie, and many rounds in that process would all agree.
        children, homes, found, missing = start(native, weights)
        versions |= found
        # Each round begins with another codec, so that none always follows the same one.
        names = list(timed)
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            answer = homes[name].ask(name) if name in homes else {"error": missing.get(name, "nothing offers it")}
            if "error" in answer:
                unavailable[name] = answer["error"] + (f" (in round {number + 1})" if number else "")
                del timed[name]
            else:
                timed[name].append(answer)
        for child in children:
            child.close()
    return timed, versions, unavailable


def summary(values):
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"min": min(values), "q1": low, "median": median, "q3": high, "max": max(values)}


def figures(timed, versions, size):
    """The rows of the table."""

    def speeds(name, call):
        return [size / answer[call] / 1e9 for answer in timed[name]]

    def ours(name):
        return OURS_CODED if name.endswith(CODED) else OURS

    def ratio(name, other, call):
        # Within each round first: what slows the machine for a while slows both.
        if name in timed and other in timed:
            pairs = zip(speeds(name, call), speeds(other, call))
            return statistics.median(speed / reference for speed, reference in pairs)
        return None

    return [
        {
            "name": name,
            "version": versions[name],
            "size": timed[name][0]["size"],
            "size_percent": 100 * timed[name][0]["size"] / size,
            "decode_gb_per_s": summary(speeds(name, "decode")),
            "encode_gb_per_s": summary(speeds(name, "encode")),
            "decode_ours_to_it": ratio(ours(name), name, "decode"),
            "encode_ours_to_it": ratio(ours(name), name, "encode"),
            "decode_to_merge": ratio(name, ROOFLINE, "decode"),
        }
        for name in timed
    ]


def table(head, rows):
    lines = [head, ["---"] + ["---:" if i else "---" for i in range(1, len(head))]] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(report):
    def speed(value):
        return f"{value:.2f}"

    def ratio(value, digits=2, scale=1, unit=""):
        return "–" if value is None else f"{scale * value:.{digits}f}{unit}"

    rows, spread = [], []
    for row in report["rows"]:
        decode, encode, title = row["decode_gb_per_s"], row["encode_gb_per_s"], TITLES[row["name"]]
        rows.append(
            [
                title,
                row["version"] or "–",
                f"{row['size_percent']:.2f}",
                speed(decode["median"]),
                speed(encode["median"]),
                ratio(row["decode_ours_to_it"]),
                ratio(row["encode_ours_to_it"]),
                ratio(row["decode_to_merge"], 0, 100, " %"),
            ]
        )
        keys = ["min", "q1", "q3", "max"]
        spread.append([title, *(speed(decode[key]) for key in keys), *(speed(encode[key]) for key in keys)])
    head = [
        "codec",
        "version",
        "size, % of BF16",
        "decode, GB/s",
        "encode, GB/s",
        "decode, ours / it",
        "encode, ours / it",
        "decode / merge",
    ]
    ends = ["minimum", "lower quartile", "upper quartile", "maximum"]
    spread_head = ["GB/s", *(f"decode, {end}" for end in ends), *(f"encode, {end}" for end in ends)]
    pinned = "one thread, kept to one core" if report["pinned"] else "one thread"
    conditions = (
        f"{report['weights'] / 1e6:.1f} million BF16 weights, {report['bytes'] / 1e6:.1f} MB; {report['cpu']}, "
        f"{report['cores']} cores; {pinned}; medians of {report['rounds']} interleaved rounds, every round trip "
        "compared bit for bit; GB/s of BF16; ratios are medians of the rounds' ratios."
    )
    text = [table(head, rows), conditions, "Spread over the rounds:", table(spread_head, spread)]
    if report["unavailable"]:
        text.append("Could not be run:")
        text.append("\n".join(f"* {TITLES[name]}: {why}" for name, why in report["unavailable"].items()))
    else:
        text.append("Nothing that is listed in README.md failed to run.")
    return "\n\n".join(text)


def main():
    parser = argparse.ArgumentParser(prog="bench/peers/run.sh", description="Times our codec beside others.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds to measure (15)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    # What `run.sh` knows.
    parser.add_argument("--native", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--ours", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--unavailable", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")

    cores, pinned = pin()
    weights = bf16_of(options.corpus)
    with tempfile.NamedTemporaryFile(prefix="df11-peers-") as file:
        file.write(weights)
        file.flush()
        timed, versions, unavailable = measure(
            options.native, file.name, options.rounds, lambda line: print(line, file=sys.stderr)
        )
    versions[OURS] = options.ours
    unavailable |= dict(item.split("=", 1) for item in options.unavailable)
    report = {
        "cpu": cpu_model(),
        "cores": cores,
        "pinned": pinned,
        "rounds": options.rounds,
        "weights": len(weights) // 2,
        "bytes": len(weights),
        "rows": figures(timed, versions, len(weights)),
        "unavailable": unavailable,
    }
    print(json.dumps(report, indent=2) if options.json else markdown(report))
    if OURS not in timed:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        main()
