"""What operations did, as dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class UnitReport:
    """What became of a unit: tensors that share one code."""

    #: Module path.
    path: str
    #: File that holds it.
    file: str
    #: Number of tensors.
    tensors: int
    #: Number of weights.
    elements: int
    #: Bytes as BF16.
    bytes_before: int
    #: Bytes of its six parts.
    bytes_after: int
    #: `8 * bytes_after / elements`.
    bits_per_weight: float
    #: 8 bits and the entropy of the exponents: what no code for single exponents can go below.
    bound_bits_per_weight: float
    #: Number of different exponents.
    alphabet: int
    #: The longest codeword in bits.
    longest_codeword: int
    #: Number of prefix tables.
    prefix_tables: int
    #: Shared memory that the published kernel asks for, in bytes.
    shared_memory_bytes: int


@dataclass(frozen=True)
class PlainReport:
    """Tensors that stay as they are."""

    #: A tensor, or the module path of a unit.
    name: str
    #: Element type, as safetensors calls it.
    dtype: str
    #: Bytes, before and after.
    bytes: int
    #: Why they are not compressed.
    reason: str


@dataclass(frozen=True)
class FrameReport:
    """A tensor that is stored as a frame."""

    #: Its name.
    name: str
    #: Element type, as safetensors calls it.
    dtype: str
    #: Its bytes.
    bytes_before: int
    #: Bytes of the frame.
    bytes_after: int


@dataclass(frozen=True)
class CompressReport:
    """What `compress` did."""

    #: Where the units came from: a model family, a given dictionary, the general rule.
    units_from: str
    #: Patterns of the dictionary that matched no module.
    unmatched_patterns: list[str]
    units: list[UnitReport]
    frames: list[FrameReport]
    #: What stayed plain, and why.
    plain: list[PlainReport]
    #: What was written: `df11` (units), `rans` or `fast` (frames), `auto` (both).
    codec: str
    #: Weight files that were copied as they are, since nothing would be gained.
    copied_weights: list[str]
    #: Files that were not copied, with the reason.
    left_behind: list[tuple[str, str]]
    #: Output files that an earlier run had finished.
    kept_files: int
    #: Bytes of the original weight files.
    bytes_before: int
    #: Bytes of the compressed weight files.
    bytes_after: int
    #: About how many bytes frames would save more.
    frames_would_save: int
    #: Whether nothing would be gained: then nothing was written.
    nothing_to_gain: bool

    @property
    def ratio(self) -> float:
        """Bytes after for each byte before."""
        return self.bytes_after / self.bytes_before if self.bytes_before else 1.0


@dataclass(frozen=True)
class DecompressReport:
    """What `decompress` did."""

    #: Whether every file that is recorded was restored byte for byte (their digests matched).
    original_restored: bool
    #: Whether there is a record of the originals. Otherwise plain tensors were written.
    recorded: bool
    #: Units decoded.
    units: int
    #: Weight files written.
    files: list[str]
    #: Their bytes.
    bytes: int
    #: Recorded files that are not as they were: written as they are here.
    changed: list[str]
    #: Recorded files that are not there.
    missing: list[str]
    #: Files of the original that compression left out, and that are not here, with the reason.
    left_out: list[tuple[str, str]]
    #: Files that nothing records: copied.
    copied: list[str]
    #: Files that were not copied, with the reason.
    stays: list[tuple[str, str]]
    #: Files that an earlier run had restored, or that were there already.
    kept_files: int
    #: What a user should know.
    warnings: list[str]


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found; there is one only if nothing was wrong."""

    #: Units whose every rule was checked and whose every weight was decoded.
    units: int
    #: Weights decoded.
    elements: int
    #: Tensors stored as frames, whose every checksum was compared.
    frames: int
    #: Plain tensors.
    plain_tensors: int
    #: Tensors whose SHA-256 was compared with the one stored beside them.
    digests_checked: int
    #: Tensors that have none: the files come from another program.
    digests_missing: int
    #: Files whose length and SHA-256 are as recorded.
    files_checked: int
    #: Tensors compared, as bits, with the original checkpoint.
    compared: int | None


@dataclass(frozen=True)
class InspectedUnit(UnitReport):
    """A unit, or tensors that could be one, as `inspect` sees it."""

    #: Bytes of code.
    code_bytes: int
    #: Blocks of 4096 bytes of code.
    blocks: int
    #: Rows of `luts`: tables and lengths.
    luts_rows: int
    #: Whether `output_positions` lacks its last entry.
    short_output_positions: bool
    #: Code length in bits by exponent; 0 for those that do not occur.
    code_lengths: list[int]
    #: How often each exponent occurs.
    frequencies: list[int]


@dataclass(frozen=True)
class InspectReport:
    """What `inspect` found."""

    #: Whether the figures are of compressed units; otherwise of what would become of them.
    compressed: bool
    #: Where predicted units come from.
    units_from: str | None
    units: list[InspectedUnit]
    frames: list[FrameReport]
    plain: list[PlainReport]
    #: Bytes of all weight files.
    file_bytes: int


def _one(kind: type[T], data: dict[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in data.items() if key in known})


def load(kind: type[T], text: str) -> T:
    """Make a report from the JSON that the extension gives."""
    data = json.loads(text)
    unit = InspectedUnit if kind is InspectReport else UnitReport
    for key, part in (("units", unit), ("frames", FrameReport), ("plain", PlainReport)):
        if isinstance(data.get(key), list):
            data[key] = [_one(part, entry) for entry in data[key]]
    for key in ("left_behind", "left_out", "stays"):
        if key in data:
            data[key] = [tuple(pair) for pair in data[key]]
    return _one(kind, data)
