"""Line coverage of the core's decoding and validation code by replaying units: python3 fuzz/coverage.py [DIRECTORY ...]

Builds the replay without optimisation, runs it under callgrind, and compares the lines that ran with the lines that have
code. Lines that begin with a closing brace, attributes and derived code are not counted.
"""

import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = ["core/src/df11/unit.rs", "core/src/df11/gaps.rs", "core/src/df11/decode/portable.rs", "core/src/huffman/tables.rs",
         "core/src/huffman/canonical.rs", "core/src/bits.rs", "core/src/bf16.rs"]
# What the replay cannot reach: writers, and reading bits outside decoding.
ENCODERS = {"core/src/df11/gaps.rs": r"impl<'a> Gaps<'a>", "core/src/huffman/tables.rs": r"pub fn build",
            "core/src/bits.rs": r"impl<'a> BitWriter<'a>"}

work = os.path.join(ROOT, "target/coverage")
directories = sys.argv[1:] or [d for d in ("fuzz/seeds/units", "fuzz/work/unit_decode") if os.path.isdir(os.path.join(ROOT, d))]
os.makedirs(work, exist_ok=True)
subprocess.run(["cargo", "build", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", work, "--bin", "replay",
                "--config", "profile.dev.opt-level=0"], cwd=ROOT, check=True)
binary = os.path.join(work, "debug/replay")
out = os.path.join(work, "callgrind.out")
subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no",
                binary, *directories], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)

ran = collections.defaultdict(set)
current = None
for line in open(out):
    if match := re.match(r"(fl|fi|fe)=(.*)", line):
        current = next((f for f in FILES if match[2].strip().endswith(f)), None)
    elif current and (match := re.match(r"(\d+) \d+", line)):
        ran[current].add(int(match[1]))

code = collections.defaultdict(set)
listing = subprocess.run(["objdump", "-d", "-l", "--no-show-raw-insn", binary], capture_output=True, text=True, check=True)
for line in listing.stdout.splitlines():
    if match := re.match(r"(/\S+\.rs):(\d+)", line):
        if name := next((f for f in FILES if match[1].endswith(f)), None):
            code[name].add(int(match[2]))

total = covered = 0
for name in FILES:
    source = open(os.path.join(ROOT, name)).read().split("#[cfg(test)]\nmod tests")[0].splitlines()
    skipped = set()
    if name in ENCODERS:
        start = next(i for i, text in enumerate(source) if re.search(ENCODERS[name], text))
        indent = re.match(r"\s*", source[start])[0]
        end = next(i for i in range(start + 1, len(source)) if source[i] == indent + "}")
        skipped = set(range(start, end + 1))
    lines = {i + 1 for i, text in enumerate(source)
             if i not in skipped and text.strip() and not re.match(r"[})\]]|#\[|//", text.strip())}
    have, hit = code[name] & lines, ran[name] & lines
    missed = sorted(have - hit)
    total, covered = total + len(have), covered + len(have & hit)
    print(f"{name}: {len(have & hit)} of {len(have)} lines; missed {missed}")
print(f"all: {covered} of {total} lines, {100 * covered / total:.1f} %")
