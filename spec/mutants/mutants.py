"""Tests the vectors: does every mistake in a decoder make it fail at least one of them?

    python3 spec/mutants/mutants.py [--list] [--jobs N] [--only TEXT]

Makes mutants of the decoders in spec/examples, each with one change: a comparison turned or moved by one, a constant
that is one more or less, an operator for another, a rule that is not checked, a loop that stops early. Each runs in
this process on every vector, the smallest first, until one gives other bytes or another verdict than it must: that
vector kills it. What survives either shows a vector that is missing, or is equivalent: no unit, frame or archive tells
it from the original. Those stand in equivalent.txt, each with the reason, and are run as well: one that is killed must
not stand there.
"""

import argparse
import ast
import concurrent.futures
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time

SPEC = pathlib.Path(__file__).resolve().parent.parent
LEAST = 200


class TooLong(BaseException):
    """A mutant did not end in time."""


def on_time(*_):
    raise TooLong


# ---- vectors ----------------------------------------------------------------------------------------------------------


def safetensors(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: (info, data[start + info["data_offsets"][0]:start + info["data_offsets"][1]])
            for name, info in header.items()}


def serialize(tensors):
    header, data = {}, b""
    for name, (info, part) in tensors.items():
        header[name] = {"dtype": info["dtype"], "shape": info["shape"], "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def vectors():
    """For each decoder its vectors: id, input, and the digest of the output."""
    units, files = [], {}
    for group in json.loads((SPEC / "vectors/df11.json").read_text())["testGroups"]:
        for test in group["tests"] if group["type"] == "UnitDecode" else []:
            if test["file"] not in files:
                files[test["file"]] = safetensors(SPEC / "vectors" / test["file"])
            prefix = test["prefix"] + "."
            found = {name[len(prefix):]: part for name, part in files[test["file"]].items() if name.startswith(prefix)}
            data = found["file"][1] if "file" in found else serialize({f"unit.{key}": found[key] for key in found})
            units.append((test["id"], data, test["result"], test["sha256"]))
    frames, archives = [], []
    for group in json.loads((SPEC / "vectors/frames.json").read_text())["testGroups"]:
        for test in group["tests"]:
            if group["type"] == "FrameDecode":
                frames.append((test["id"], bytes.fromhex(test["frame"]), test["result"], test["sha256"]))
            if group["type"] == "ArchiveDecode":
                archives.append((test["id"], bytes.fromhex(test["archive"]), test["result"], test["sha256"]))
    return {kind: sorted(tests, key=lambda test: len(test[1]))
            for kind, tests in (("unit", units), ("frame", frames), ("archive", archives))}


# Functions that are not mutated yet: those that put blocks and archives together.
LEFT_OUT = {"rule", "read_block", "read_chunks", "decode_frame", "check", "ans", "decode_archive"}

# ---- mutants ----------------------------------------------------------------------------------------------------------

COMPARISONS = {ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE],
               ast.GtE: [ast.Gt, ast.Lt], ast.Eq: [ast.NotEq, ast.GtE, ast.LtE], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn]}
OPERATORS = {ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Add], ast.Mod: [ast.FloorDiv], ast.LShift: [ast.RShift],
             ast.RShift: [ast.LShift], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd], ast.BitXor: [ast.BitOr],
             ast.FloorDiv: [ast.Mod], ast.MatMult: []}


def changes(node):
    """Ways to change a node: what was done, and a function that does it in place and returns how to undo it."""

    def setting(target, name, value):
        def apply():
            before = getattr(target, name)
            setattr(target, name, value)
            return lambda: setattr(target, name, before)
        return apply

    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS.get(type(op), []):
                ops = list(node.ops)
                ops[i] = other()
                yield f"{type(op).__name__} {i} -> {other.__name__}", setting(node, "ops", ops)
    if isinstance(node, ast.BinOp):
        for other in OPERATORS.get(type(node.op), []):
            yield f"{type(node.op).__name__} -> {other.__name__}", setting(node, "op", other())
    if isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            values = node.values[:i] + node.values[i + 1:]
            yield f"without operand {i}", setting(node, "values", values)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for other in (node.value + 1, node.value - 1):
            yield f"{node.value} -> {other}", setting(node, "value", other)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "without not", setting(node, "op", ast.UAdd())
    if isinstance(node, ast.AugAssign):
        for other in OPERATORS.get(type(node.op), []):
            yield f"{type(node.op).__name__} -> {other.__name__}", setting(node, "op", other())
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        name = getattr(function, "id", getattr(function, "attr", ""))
        if name in ("rule", "zeros", "pad", "check", "append", "take", "number"):
            yield f"without {name}", setting(node, "value", ast.Constant(None))


def mutants(path):
    """Every mutant of a file: its name, and its code. Tables of names and what is run from a shell stay as they are."""
    tree = ast.parse(path.read_text())
    lines = path.read_text().splitlines()
    seen = {}
    for part in tree.body:
        if not isinstance(part, (ast.FunctionDef, ast.ClassDef)) or part.name in LEFT_OUT:
            continue
        for node in ast.walk(part):
            for what, apply in changes(node):
                line = lines[node.lineno - 1].split("  #")[0].strip()
                name = f"{path.stem}.{part.name}: {line} | {what}"
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name += f" ({seen[name]})"
                undo = apply()
                try:
                    yield name, compile(ast.fix_missing_locations(tree), str(path), "exec")
                except (ValueError, TypeError, SyntaxError):
                    pass
                undo()


# ---- running ----------------------------------------------------------------------------------------------------------


def run(decode, data):
    """The digest of what a decoder gives, or how it refuses."""
    try:
        return hashlib.sha256(decode(data)).hexdigest()
    except SystemExit as error:
        return {10: "invalid", 11: "unsupported"}.get(error.code, "no refusal")


def keeps(code, tests):
    """The first vector that a mutant fails, or None. That vector comes first the next time: it may kill others. The
    decoders are lenient: they decode what is acceptable."""
    for kind, of_kind in tests.items():
        space = {"__name__": "mutant"}
        try:
            exec(code, space)
        except Exception:
            return "import"
        if kind == "unit":
            decode = lambda data: space["decode"](**space["read"](data)).astype("<u2").tobytes()  # noqa: E731
        else:
            decode = space[f"decode_{kind}"]
        for i, (name, data, result, sha256) in enumerate(of_kind):
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SECONDS.get(name, 60))
            try:
                found, said = run(decode, data), ""
            except TooLong:
                found, said = "too long", ": too long"
            except Exception as error:
                found, said = "exception", f": {type(error).__name__}"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            SECONDS.setdefault(name, 0.2 + 10 * (time.process_time() - start))
            if found != (sha256 if result in ("valid", "acceptable") else result):
                of_kind.insert(0, of_kind.pop(i))
                return name + said
    return None


TESTS = None
SECONDS = {}  # of CPU time that a mutant may take for a vector: ten times what the original took


def work(job):
    """Runs the mutants of one file whose number leaves a remainder."""
    file, remainder, jobs, only, listed, is_quick = job
    signal.signal(signal.SIGPROF, on_time)
    sys.stderr = io.StringIO()
    kinds = ("unit",) if file == "decode.py" else ("frame", "archive")
    tests = {kind: list(TESTS[kind]) for kind in kinds}
    # The largest are for those alone that survive the others, and are not known to.
    small = {kind: [test for test in tests[kind] if len(test[1]) < 20_000] for kind in kinds}
    results = []
    for i, (name, code) in enumerate(mutants(SPEC / "examples" / file)):
        if i % jobs == remainder and (not only or only in name):
            killer = keeps(code, small)
            if killer is None and not (is_quick or name in listed):
                killer = keeps(code, tests)
            results.append((name, killer))
            if killer is None and name not in listed:
                print(f"survives: {name}", flush=True)
    return results


def main():
    global TESTS
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--list", action="store_true", help="say which vector kills each mutant")
    arguments.add_argument("--quick", action="store_true", help="leave the largest vectors out")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments.add_argument("--only", help="mutants with this text in their name")
    options = arguments.parse_args()
    started = time.monotonic()
    TESTS = vectors()
    listed, reason = {}, ""
    for line in (SPEC / "mutants/equivalent.txt").read_text().splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            listed[line] = reason
    signal.signal(signal.SIGPROF, on_time)
    stderr, sys.stderr = sys.stderr, io.StringIO()
    for file, kinds in (("decode.py", ["unit"]), ("decode_frame.py", ["frame", "archive"])):
        code = compile((SPEC / "examples" / file).read_text(), file, "exec")
        failed = keeps(code, {kind: TESTS[kind] for kind in kinds})
        if failed:
            sys.exit(f"{file} as it is fails {failed}")
    sys.stderr = stderr
    jobs = [(file, i, options.jobs, options.only, listed, options.quick) for file in ("decode.py", "decode_frame.py") for i in range(options.jobs)]
    with concurrent.futures.ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork")) as pool:
        results = [result for part in pool.map(work, jobs) for result in part]
    survivors = [name for name, killer in results if killer is None]
    wrong = [f"{name}\n    stands in equivalent.txt, but is killed by {killer}" for name, killer in results if killer and name in listed]
    missing = [name for name in survivors if name not in listed]
    gone = [] if options.only else [f"{name}\n    stands in equivalent.txt, but is no mutant" for name in listed if name not in dict(results)]
    if options.list:
        for name, killer in results:
            print(f"{name}\n    {killer}")
    for line in wrong + gone:
        print(line)
    killed = len(results) - len(survivors)
    print(f"{len(results)} mutants: {killed} killed by a vector, {len(survivors)} survive, of which "
          f"{len(survivors) - len(missing)} are equivalent for a reason given; {time.monotonic() - started:.0f} s")
    if wrong or missing or gone or (not options.only and len(results) < LEAST):
        sys.exit(1)


if __name__ == "__main__":
    main()
