#!/usr/bin/env python3
"""Throughput with one worker and with two: docs/scale/workers.py [BYTES [ROUNDS]].

Makes a checkpoint of about BYTES (1.5e9) with the exponents of a real model, plans it, and does its
tasks with one worker process and with two, each on a processor of its own, in turn, ROUNDS (3)
times. Prints the median of seconds and of processor seconds. The environment variable DF11 names
the command.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "tests/store")]
import parts  # noqa: E402


def run(plan, tasks, processors):
    """Do all tasks with a worker on each of these processors: wall and processor seconds."""
    waiting, working = list(tasks), {}
    before, began = os.times(), time.monotonic()
    while waiting or working:
        while waiting and len(working) < len(processors):
            processor = next(one for one in processors if one not in working.values())
            command = [parts.DF11, "run", "--quiet", "--threads", "1", plan]
            command += ["--task", str(waiting.pop(0))]
            pin = lambda processor=processor: os.sched_setaffinity(0, {processor})  # noqa: E731
            working[subprocess.Popen(command, preexec_fn=pin).pid] = processor
        pid, status = os.wait()
        assert status == 0, f"a task failed: {status}"
        del working[pid]
    took, after = time.monotonic() - began, os.times()
    user = after.children_user - before.children_user
    return took, user + after.children_system - before.children_system


def main():
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5e9
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    processors = sorted(os.sched_getaffinity(0))[:2]
    assert len(processors) == 2, "this needs two processors"
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        folder = Path(folder)
        # A layer of these sizes has 2 * (4 * 2048^2 + 3 * 2048 * 5632) bytes.
        layers = max(1, round(size / 102_760_448))
        parts.model(folder / "model", layers=layers, hidden=2048, inner=5632)
        found = {1: [], 2: []}
        for _ in range(rounds):
            for workers in found:
                out = folder / "out"
                made = subprocess.check_output(
                    [parts.DF11, "plan", "--json", folder / "model", "-o", out]
                )
                report = json.loads(made)
                tasks = report["tasks"]
                order = sorted(range(len(tasks)), key=lambda k: -tasks[k]["bytes"])
                found[workers].append(run(report["plan"], order, processors[:workers]))
                subprocess.run([parts.DF11, "finish", "--quiet", report["plan"]], check=True)
                shutil.rmtree(out)
        total = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
        print(f"{total:,} bytes of weights, {len(tasks)} tasks, {rounds} rounds in turn, load {os.getloadavg()}")
        walls = {}
        for workers, times in found.items():
            wall, cpu = (statistics.median(column) for column in zip(*times))
            walls[workers] = wall
            print(
                f"{workers} workers: {wall:.2f} s, {total / wall / 1e6:.0f} MB/s, "
                f"{cpu:.2f} processor seconds ({total / cpu / 1e6:.0f} MB/s of each)"
            )
        print(f"two workers are {walls[1] / walls[2]:.2f} times as fast as one")


if __name__ == "__main__":
    main()
