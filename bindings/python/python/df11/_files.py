"""Operations on whole checkpoints."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from . import _df11
from ._errors import InvalidInputError
from ._reports import CompressReport, DecompressReport, InspectReport, VerifyReport, load

Path = str | os.PathLike[str]

#: The form of the weights: units in the published DF11 layout; frames coded by rANS (smaller, of
#: any element type) or by dictionaries (the fastest to decode); or the smaller of DF11 and rANS.
Codec = Literal["df11", "rans", "fast", "auto"]

#: What an output is for: the fewest bytes, the fastest decoding on CPUs or on GPUs, or programs
#: that load the published layout. It chooses the codec and the length of blocks.
Purpose = Literal["size", "speed", "gpu", "loader"]

PatternDict = Mapping[str, Sequence[str]]

#: A checkpoint, or several.
Bases = Path | Sequence[Path]

#: Called from time to time with the task, the bytes that are done, and all bytes of the task.
ProgressCallback = Callable[[str, int, int], Any]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def as_bytes(size: int | str | None) -> int | None:
    """Read a size such as `5GB`, as transformers writes them."""
    if size is None or isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    if found is None or found[2].upper() not in _UNITS:
        raise InvalidInputError(f"{size!r} is no size; write one such as '5GB'")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def as_json(pattern_dict: PatternDict | None) -> str | None:
    """Write a pattern dictionary in the form of the extension."""
    if pattern_dict is None:
        return None
    return json.dumps({key: list(modules) for key, modules in pattern_dict.items()})


def as_bases(bases: Bases) -> list[str]:
    """Return the paths of bases, of which one may stand alone."""
    if isinstance(bases, str | os.PathLike):
        return [os.fspath(bases)]
    return [os.fspath(path) for path in bases]


def as_form(
    codec: Codec | None,
    purpose: Purpose | None,
    block_len: int | None,
    pattern_dict: PatternDict | None,
    max_shard_size: int | str | None,
    force: bool,
) -> _df11.Form:
    """Return what an output is like, in the form of the extension."""
    size = as_bytes(max_shard_size)
    return codec, purpose, block_len, as_json(pattern_dict), size, force


class Options(TypedDict, total=False):
    """Arguments of `compress` that functions which save a file take as well."""

    codec: Codec | None
    purpose: Purpose | None
    block_len: int | None
    pattern_dict: PatternDict | None
    threads: int
    progress: ProgressCallback | bool | None


def _bar() -> tuple[ProgressCallback, Callable[[], None]]:
    """Make a progress bar, and the function that closes it."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        problem = "progress=True shows a bar of tqdm, which is not installed: pip install tqdm"
        raise InvalidInputError(problem) from None
    bars: dict[str, Any] = {}

    def tell(task: str, done: int, total: int) -> None:
        if task not in bars:
            bars[task] = tqdm(total=total, desc=task, unit="B", unit_scale=True)
        bars[task].update(done - bars[task].n)

    def close() -> None:
        for bar in bars.values():
            bar.close()

    return tell, close


def _told(
    progress: ProgressCallback | bool | None, run: Callable[[ProgressCallback | None], str]
) -> str:
    if progress is True:
        tell, close = _bar()
        try:
            return run(tell)
        finally:
            close()
    return run(progress or None)


def compress(
    src: Path,
    dst: Path,
    *,
    codec: Codec | None = None,
    purpose: Purpose | None = None,
    block_len: int | None = None,
    base: Bases = (),
    pattern_dict: PatternDict | None = None,
    single_file: bool | None = None,
    max_shard_size: int | str | None = None,
    threads: int = 0,
    progress: ProgressCallback | bool | None = None,
    force: bool = False,
) -> CompressReport:
    """Compress the checkpoint `src`, a safetensors file or a directory, into `dst`.

    Everything below a directory comes along. All that is written is decoded and compared with what
    was read before any of it becomes visible; whatever is raised, nothing was changed.

    Args:
        src: The checkpoint.
        dst: The directory to write, or a file whose name ends in `.safetensors`.
        codec: What weights become; by default `df11`, or `auto` for a model of which `df11` would
            save nothing.
        purpose: What the output is for: `size`, `speed` (on CPUs), `gpu` or `loader` (the published
            layout). It chooses `codec` and `block_len` where these are not given.
        block_len: The elements of a block of a frame: a multiple of 64 (with `fast`, of 4,096) from
            4,096 to 65,536, which is the default. Small blocks suit GPUs, and cost up to 1.5 %.
        base: A checkpoint that is near to this one, in any form: what it was fine-tuned from, or
            the one before. Each tensor is then stored against that of the base where that is
            shorter, and restoring needs the base. Further ones are what the base itself needs.
        pattern_dict: Which tensors make which units, as in `dfloat11_config`; by default that of
            the model's family, or a general rule.
        single_file: Write one weight file instead of one for each unit; by default if `dst` is one.
        max_shard_size: Cut frames, and what belongs to no unit, into files of at most this many
            bytes of the original.
        threads: How many; 0 for as many as there are processors.
        progress: A function that is called with task, bytes done and bytes in all; or True for a
            bar.
        force: Write into a directory that is not empty: what df11 wrote there is replaced, and
            nothing else. An output that is one file is replaced.

    """
    if single_file is None:
        single_file = os.fspath(dst).endswith(".safetensors")

    def run(callback: ProgressCallback | None) -> str:
        return _df11.compress(
            os.fspath(src),
            os.fspath(dst),
            as_form(codec, purpose, block_len, pattern_dict, max_shard_size, force),
            as_bases(base),
            single_file,
            threads,
            callback,
        )

    return load(CompressReport, _told(progress, run))


def decompress(
    src: Path,
    dst: Path,
    *,
    base: Bases = (),
    pattern_dict: PatternDict | None = None,
    threads: int = 0,
    progress: ProgressCallback | bool | None = None,
    force: bool = False,
) -> DecompressReport:
    """Restore the compressed checkpoint `src` into `dst`: the original files, byte for byte.

    Args:
        src: The compressed directory or file.
        dst: The directory to write, or, for a single weight file, a name ending in `.safetensors`.
        base: For deltas: the checkpoint that they were made against, in any form, or several.
        pattern_dict: For files of other programs: names the tensors of each unit.
        threads: How many; 0 for as many as there are processors.
        progress: As for `compress`.
        force: Write into a directory that is not empty; replaces only what df11 wrote.

    """

    def run(callback: ProgressCallback | None) -> str:
        source, target, names = os.fspath(src), os.fspath(dst), as_json(pattern_dict)
        return _df11.decompress(source, target, as_bases(base), names, threads, callback, force)

    return load(DecompressReport, _told(progress, run))


def verify(
    path: Path,
    *,
    against: Path | None = None,
    base: Bases = (),
    threads: int = 0,
    progress: ProgressCallback | bool | None = None,
) -> VerifyReport:
    """Check every rule of the compressed checkpoint `path`, decode every weight, compare digests.

    With `against`, also compares every file and every tensor with the original checkpoint there.
    With `base`, decodes deltas against that checkpoint; without, compares their checksums alone.
    Raises for the first thing that is wrong.
    """

    def run(callback: ProgressCallback | None) -> str:
        original = None if against is None else os.fspath(against)
        return _df11.verify(os.fspath(path), original, as_bases(base), threads, callback)

    return load(VerifyReport, _told(progress, run))


def inspect(
    path: Path, *, pattern_dict: PatternDict | None = None, threads: int = 0
) -> InspectReport:
    """List the content of a compressed checkpoint, or predict that of compressing a plain one."""
    text = _df11.inspect(os.fspath(path), as_json(pattern_dict), threads)
    return load(InspectReport, text)
