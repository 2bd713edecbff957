#!/usr/bin/env python3
"""The figures of docs/scale.md: docs/scale/scale.py [--measure | --check].

Makes the plans of Llama 3.1 405B and DeepSeek V3 671B from their shapes (models.py), and computes
what they take. With --measure, measures the rates of this machine first. With --check, compares
the tables with those in docs/scale.md, and fails if they differ.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests/store")]
import models  # noqa: E402
import parts  # noqa: E402

PAGE = Path(__file__).parents[1] / "scale.md"
#: CPU seconds for 1e9 bytes of a task, as `--measure` prints them, and the share that is left.
RATES = {"digest": 0.0, "write": 0.0}
RATES.update(json.loads((Path(__file__).parent / "rates.json").read_text()))
#: A node: processors that work, and bytes a second that it reads from the store while it writes.
CPUS, READS = 16, 25e9 / 8 * 0.8
#: The latency of a request, in seconds, and how many requests finish has under way.
LATENCY, AT_ONCE = 0.1, CPUS
REQUEST = 8 << 20
NODES = (1, 4, 16, 64)
#: Prices of S3 in us-east-1: a thousand requests that write and that read, and an hour of a node.
WRITES_COST, READS_COST = 0.005, 0.0004


def plan(folder):
    """Make a plan. Returns it and the seconds that it took."""
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        done = subprocess.run(
            [parts.DF11, "plan", "--json", folder, "-o", Path(out) / "out"],
            check=True, capture_output=True,
        )
        return json.loads(done.stdout), time.monotonic() - began


def wall(tasks, nodes):
    """Schedule tasks, longest first, on slots of a CPU each. Returns seconds."""
    slots = [0.0] * (nodes * CPUS)
    share = READS / CPUS
    seconds = sorted((max(RATES[t["kind"]] * t["bytes"] / 1e9, t["bytes"] / share) for t in tasks), reverse=True)
    import heapq
    heapq.heapify(slots)
    for each in seconds:
        heapq.heappush(slots, heapq.heappop(slots) + each)
    written = [t for t in tasks if t["kind"] == "write"]
    return max(slots) + 3 * LATENCY * len(written) / AT_ONCE


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def tables():
    """Make both tables, and the line of the planner."""
    with tempfile.TemporaryDirectory() as place:
        found = []
        for name, tensors, config, shard in (
            ("Llama 3.1 405B", models.llama(models.LLAMA_405B), models.LLAMA_405B, 4_800_000_000),
            ("DeepSeek V3 671B", models.deepseek(models.DEEPSEEK_671B), models.DEEPSEEK_671B, 8_600_000_000),
        ):
            folder = Path(place) / config["model_type"]
            size = models.write(folder, tensors, config, shard)
            found.append((name, size, plan(folder)[0]))
    lines = [row(["", *(name for name, _, _ in found)]), "|---|---:|---:|"]

    def add(what, value):
        lines.append(row([what, *(value(size, report["tasks"]) for _, size, report in found)]))

    kind = lambda tasks, name: [task for task in tasks if task["kind"] == name]  # noqa: E731
    add("bytes of weights", lambda size, tasks: f"{size:,}")
    add("tasks that write a file", lambda size, tasks: f"{len(kind(tasks, 'write')):,}")
    add("tasks that digest a file", lambda size, tasks: f"{len(kind(tasks, 'digest')):,}")
    add("bytes that tasks read", lambda size, tasks: f"{sum(t['bytes'] for t in tasks):,}")
    add("largest task, bytes", lambda size, tasks: f"{max(t['bytes'] for t in tasks):,}")
    add("most memory of a task, bytes", lambda size, tasks: f"{max(t['memory'] for t in tasks):,}")
    cpu = lambda tasks: sum(RATES[t["kind"]] * t["bytes"] / 1e9 for t in tasks)  # noqa: E731
    add("CPU hours", lambda size, tasks: f"{cpu(tasks) / 3600:.1f}")
    for nodes in NODES:
        label = f"minutes on {nodes} node{'s' if nodes > 1 else ''}"
        add(label, lambda size, tasks, nodes=nodes: f"{wall(tasks, nodes) / 60:.1f}")
    reads = lambda tasks: sum(-(-(e - s) // REQUEST) for t in tasks for _, s, e in t["reads"])  # noqa: E731
    writes = lambda tasks: sum(-(-int(0.68 * t["bytes"]) // REQUEST) + 6 for t in kind(tasks, "write"))  # noqa: E731
    add("requests that read", lambda size, tasks: f"{reads(tasks):,}")
    add("requests that write, about", lambda size, tasks: f"{writes(tasks):,}")
    price = lambda tasks: (reads(tasks) * READS_COST + writes(tasks) * WRITES_COST) / 1000  # noqa: E731
    add("price of the requests, dollars", lambda size, tasks: f"{price(tasks):.2f}")
    return "\n".join(lines)


def measure():
    """Measure CPU seconds for 1e9 bytes of each kind of task, and tasks a second of the planner."""
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        parts.model(model, layers=2, hidden=2048, inner=8192)
        report, _ = plan(model)
        out = Path(place) / "out"
        planned = json.loads(parts.df11("plan", "--json", model, "-o", out).out)
        rates = {}
        for kind in "digest", "write":
            tasks = [n for n, t in enumerate(report["tasks"]) if t["kind"] == kind and t["bytes"] > 5e7]
            done = [(parts.df11("run", "--threads", "1", planned["plan"], "--task", n), n) for n in tasks]
            cpu = sum(each.cpu for each, _ in done)
            rates[kind] = round(cpu / sum(report["tasks"][n]["bytes"] for _, n in done) * 1e9, 2)
        (Path(__file__).parent / "rates.json").write_text(json.dumps(rates) + "\n")
        print("CPU seconds for 1e9 bytes:", rates)
        many = Path(place) / "many"
        models.write(many, models.many(100_000), {"model_type": "none"}, 5_000_000_000)
        report, seconds = plan(many)
        tasks = len(report["tasks"])
        print(f"planner: 100,000 tensors, {tasks} tasks in {seconds:.1f} s, {tasks / seconds:.0f} tasks/s")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure()
    else:
        made = tables()
        print(made)
        if "--check" in sys.argv:
            assert made in PAGE.read_text(), "docs/scale.md has another table"
