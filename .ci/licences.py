"""Reads `cargo metadata` and fails if a dependency can be had under no permissive licence."""

import json
import re
import sys

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}


def permissive(expression):
    """Whether a licence expression (parentheses, AND, OR) can be met with permissive licences alone."""
    expression = expression.replace("/", " OR ")
    while "(" in expression:
        inner = re.search(r"\(([^()]*)\)", expression)
        verdict = "MIT" if permissive(inner.group(1)) else "restricted"
        expression = expression[: inner.start()] + verdict + expression[inner.end():]
    return any(
        all(part.strip() in PERMISSIVE for part in choice.split(" AND ")) for choice in expression.split(" OR ")
    )


assert permissive("(MIT OR Apache-2.0) AND Unicode-3.0") and not permissive("GPL-3.0 OR (MIT AND LGPL-2.1)")
packages = json.load(sys.stdin)["packages"]
bad = [(p["name"], p["license"]) for p in packages if not permissive(p["license"] or "none stated")]
print(f"{len(packages)} packages, {len(bad)} without a permissive licence")
for name, licence in bad:
    print(f"  {name}: {licence}")
sys.exit(1 if bad else 0)
