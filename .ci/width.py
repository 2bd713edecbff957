"""Checks that prose and comments have lines of at most 100 columns: Markdown and comments of Rust, outside
of tables, of code, and of what a program writes (spec/DF11.md)."""

import subprocess
import sys

WIDTH = 100


def prose(name, lines):
    """The lines of prose in a file, with their numbers."""
    is_markdown = name.endswith(".md")
    in_code = is_generated = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not is_markdown:
            if not text.startswith("//"):
                in_code = False
                continue
            text = text.lstrip("/!").strip()
        if text.startswith("<!--"):
            is_generated = "generated:" in text
        elif text.startswith("```"):
            in_code = not in_code
        elif not in_code and not is_generated and not text.startswith(("|", "<")) and " " in text:
            yield number, line


files = subprocess.check_output(["git", "ls-files", "*.rs", "*.md"], text=True).splitlines()
wide = 0
for name in files:
    if name.startswith("spec/compat/"):
        continue
    with open(name, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for number, line in prose(name, lines):
        if len(line) > WIDTH:
            print(f"{name}:{number}: {len(line)} columns: {line.strip()[:60]} ..")
            wide += 1
sys.exit(f"{wide} lines are wider than {WIDTH} columns" if wide else 0)
