#!/usr/bin/env python3
"""Turns what a run on a card left behind into Markdown for docs/gpu.md: tables.py RESULTS, the folder that OUT named."""
import csv
import json
import os
import re
import sys


def read(name):
    path = os.path.join(sys.argv[1], name)
    return open(path).read() if os.path.exists(path) else ""


def machine():
    log = read("log.txt")
    card = re.search(r"^name, driver_version.*\n([^,]+), ([^,]+), ([^,]+)", log, re.M)
    commit = re.search(r"== \[0 s\] versions.*\n([0-9a-f]{40})", log)
    if card:
        print(f"{card[1]}, driver {card[2]}, compute capability {card[3]}, commit {commit[1][:7] if commit else 'unknown'}\n")


def rows():
    for line in filter(None, read("bench.json").splitlines()):
        found = {row["name"]: row for row in json.loads(line)["rows"] if row.get("GB/s")}
        merge = next((row["GB/s"] for name, row in found.items() if name == "merge of two plain planes"), None)
        published = found.get("published", {}).get("GB/s")
        print("| | GB/s of BF16 | of the merge | of the published kernel | bit-exact |\n|---|---:|---:|---:|---|")
        for name, row in found.items():
            share = lambda of: f"{row['GB/s'] / of:.2f}" if of and not name.startswith("copy") else ""
            exact = {True: "yes", False: "**no**", None: ""}[row["bit_exact"]]
            print(f"| {name} | {row['GB/s']:,.0f} | {share(merge)} | {share(published)} | {exact} |")
        print()


def ways():
    """Models that stay compressed, beside plain ones."""
    for line in filter(None, read("attach.json").splitlines()):
        told = json.loads(line)
        print(f"{told['card']}, PyTorch {told['torch']}, transformers {told['transformers']}\n")
        print("| | blocks | a token, ms | of plain | layers, ms | of plain | as a graph | MB on the card | buffers | bits |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")
        for row in told["rows"]:
            name = "plain" if row["codec"] == "plain" else f"{row['codec']}, {row['linear']}, prefetch {row['prefetch']}"
            if "token_ms" not in row:
                print(f"| {name} | {row['blocks']} | {row.get('error', 'did not end')} |")
                continue
            number = lambda key, form, scale=1: format(row[key] / scale, form) if row.get(key) is not None else ""
            bits = ""
            if "same_bits" in row:
                bits = "the same" if all(row["same_bits"].values()) else f"off by {row['largest_difference']:.1e}"
                bits += "" if row["right"] and row.get("gives_back") else ", **wrong**"
            held = number("bytes" if row["codec"] == "plain" else "device_bytes", ",.0f", 1e6)
            print(f"| {name} | {row['blocks']} | {number('token_ms', '.3f')} | {number('token_ratio', '.2f')} | "
                  f"{number('layers_ms', '.3f')} | {number('layers_ratio', '.2f')} | {number('graph_ms', '.3f')} | {held} | "
                  f"{number('buffer_bytes', ',.0f', 1e6)} | {bits} |")
        print()


def counters():
    """Of each kernel: what ncu counted."""
    wanted = {
        "smsp__inst_executed.sum": "machine instructions by warps",
        "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum": "wavefronts of shared memory",
        "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue slots in use, %",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory in use, %",
        "sm__warps_active.avg.per_cycle_active": "warps on a multiprocessor",
    }
    head = None
    for row in csv.reader(read("ncu.csv").splitlines()):
        if "Kernel Name" in row:
            head = row
        elif head and len(row) == len(head) and row[head.index("Kernel Name")]:
            told = dict(zip(head, row))
            print(f"{told['Kernel Name']}: " + ", ".join(
                f"{text} {told[name]}" for name, text in wanted.items() if told.get(name)))


def verdicts():
    for line in read("sanitizers.txt").splitlines():
        if line.startswith("== ") or "SUMMARY" in line:
            print(line)
    print(read("summary.txt"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    machine()
    rows()
    ways()
    counters()
    verdicts()
