"""Reads `cargo metadata` and fails if a dependency can be had under no licence that deny.toml allows."""

import json
import re
import sys
import tomllib

PERMISSIVE = set(tomllib.load(open("deny.toml", "rb"))["licenses"]["allow"])


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
