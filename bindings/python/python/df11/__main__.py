"""The command `df11`: compress, decompress, verify, inspect.

Exit codes: 0 done, 1 the data is wrong, 2 used wrongly, 3 input or output failed, 130 stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from . import (
    Error,
    InvalidInputError,
    IoError,
    __version__,
    compress,
    decompress,
    inspect,
    verify,
)

_CODES = "exit codes: 0 done, 1 the data is wrong, 2 used wrongly, 3 input or output failed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="df11", description=__doc__, epilog=_CODES)
    parser.add_argument("--version", action="version", version=f"df11 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, epilog=_CODES)
        added.add_argument("--threads", type=int, default=0, metavar="N", help="0 for all")
        added.add_argument("--json", action="store_true", help="print one JSON document")
        added.add_argument("--quiet", "-q", action="store_true", help="print nothing but errors")
        return added

    packing = command("compress", "Compress a safetensors file or a directory.")
    packing.add_argument("input")
    packing.add_argument("--output", "-o", required=True)
    packing.add_argument("--codec", choices=["df11", "rans", "fast", "auto"])
    packing.add_argument("--pattern-dict", metavar="FILE", help="JSON: patterns to sub-modules")
    packing.add_argument("--single-file", action="store_true", default=None)
    packing.add_argument("--max-shard-size", metavar="SIZE", help="such as 5GB")
    packing.add_argument("--force", action="store_true", help="replace what df11 wrote there")
    unpacking = command("decompress", "Restore the original files, byte for byte.")
    unpacking.add_argument("input")
    unpacking.add_argument("--output", "-o", required=True)
    unpacking.add_argument("--pattern-dict", metavar="FILE")
    unpacking.add_argument("--force", action="store_true")
    checking = command("verify", "Check every rule, decode every weight, compare digests.")
    checking.add_argument("path")
    checking.add_argument("--against", metavar="ORIGINAL")
    looking = command("inspect", "Show what is inside, or what compression would give.")
    looking.add_argument("path")
    looking.add_argument("--pattern-dict", metavar="FILE")
    return parser


def _pattern_dict(path: str | None) -> Any:
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise InvalidInputError(f"{path}: is not valid JSON: {error}") from None


def _run(options: argparse.Namespace) -> tuple[Any, str]:
    threads, progress = options.threads, _progress(options)
    if options.command == "verify":
        checked = verify(options.path, against=options.against, threads=threads, progress=progress)
        return checked, (
            f"sound: {checked.units} units, {checked.frames} frames, {checked.plain_tensors} plain"
            f" tensors, {checked.digests_checked} digests compared"
        )
    dict_ = _pattern_dict(options.pattern_dict)
    if options.command == "inspect":
        seen = inspect(options.path, pattern_dict=dict_, threads=threads)
        parts = [(part.bytes_before, part.bytes_after) for part in seen.units]
        parts += [(part.bytes_before, part.bytes_after) for part in seen.frames]
        before, after = sum(pair[0] for pair in parts), sum(pair[1] for pair in parts)
        verb = "are" if seen.compressed else "would be"
        return seen, (
            f"{len(seen.units)} units and {len(seen.frames)} frames: {before:,} bytes {verb}"
            f" {after:,}; {len(seen.plain)} plain tensors; {seen.file_bytes:,} bytes of files"
        )
    if options.command == "decompress":
        back = decompress(
            options.input,
            options.output,
            pattern_dict=dict_,
            threads=threads,
            progress=progress,
            force=options.force,
        )
        how = "byte for byte" if back.original_restored else "not byte for byte"
        return back, f"restored {len(back.files)} files, {back.bytes:,} bytes, {how}"
    done = compress(
        options.input,
        options.output,
        codec=options.codec,
        pattern_dict=dict_,
        single_file=options.single_file,
        max_shard_size=options.max_shard_size,
        threads=threads,
        progress=progress,
        force=options.force,
    )
    if done.nothing_to_gain:
        return done, "nothing would be gained, so nothing was written"
    sizes = f"{done.bytes_before:,} bytes to {done.bytes_after:,} ({100 * done.ratio:.2f} %)"
    return done, f"{sizes}: {len(done.units)} units, {len(done.frames)} frames"


def _progress(options: argparse.Namespace) -> bool | None:
    if options.quiet or options.json or not sys.stderr.isatty():
        return None
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return None
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or with those of the process."""
    options = _parser().parse_args(arguments)
    try:
        report, text = _run(options)
    except KeyboardInterrupt:
        print("df11: stopped; nothing was changed", file=sys.stderr)
        return 130
    except (Error, OSError) as error:
        kind = error.kind if isinstance(error, Error) else "io"
        if options.json:
            print(json.dumps({"error": str(error), "kind": kind}))
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        print(f"df11: {line}", file=sys.stderr)
        if isinstance(error, IoError) or not isinstance(error, Error):
            return 3
        return 2 if isinstance(error, InvalidInputError) else 1
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
    elif not options.quiet:
        print(text)
        for warning in getattr(report, "warnings", []):
            print(f"df11: {warning}", file=sys.stderr)
    whole = options.command != "decompress" or report.original_restored or not report.recorded
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
