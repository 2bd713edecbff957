"""Reports of operations, as dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class UnitReport:
    """The figures of a unit: tensors that share one code."""

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
    #: The lower bound of any order-0 code: 8 bits plus the entropy of the exponents.
    bound_bits_per_weight: float
    #: Number of distinct exponents.
    alphabet: int
    #: The longest codeword in bits.
    longest_codeword: int
    #: Number of prefix tables.
    prefix_tables: int
    #: Shared memory that the published kernel needs, in bytes.
    shared_memory_bytes: int


@dataclass(frozen=True)
class PlainReport:
    """Tensors that stay plain."""

    #: A tensor, or the module path of a unit.
    name: str
    #: Element type, as safetensors calls it.
    dtype: str
    #: Bytes, before and after.
    bytes: int
    #: The reason why they are not compressed.
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
class DeltaReport:
    """A tensor that is stored against one of another checkpoint, its base."""

    #: Its name.
    name: str
    #: Element type, as safetensors calls it.
    dtype: str
    #: The name of the base's tensor.
    base: str
    #: The SHA-256 of the base's tensor.
    base_sha256: str
    #: The number of deltas that it takes to restore the tensor.
    depth: int
    #: How it is stored: `same`, `list` or `coded`.
    method: str
    #: Its elements, and those that are not the base's.
    elements: int
    changed: int
    #: Its bytes.
    bytes_before: int
    #: Bytes of the delta.
    bytes_after: int


@dataclass(frozen=True)
class CompressReport:
    """The report of `compress`."""

    #: The origin of the units: a model family, a given dictionary, the general rule.
    units_from: str
    #: Patterns of the dictionary that matched no module.
    unmatched_patterns: list[str]
    units: list[UnitReport]
    frames: list[FrameReport]
    #: Tensors that stayed plain, with the reason.
    plain: list[PlainReport]
    #: The stored form: `df11` (units), `rans` or `fast` (frames), `auto` (both).
    codec: str
    #: Weight files that were copied unchanged, since compressing them would gain nothing.
    copied_weights: list[str]
    #: Files that were not copied, with the reason.
    left_behind: list[tuple[str, str]]
    #: Output files that an earlier run had finished.
    kept_files: int
    #: Bytes of the original weight files.
    bytes_before: int
    #: Bytes of the compressed weight files.
    bytes_after: int
    #: Estimated number of bytes that frames would save in addition.
    frames_would_save: int
    #: Whether compression would gain nothing. In that case nothing was written.
    nothing_to_gain: bool

    @property
    def ratio(self) -> float:
        """The compressed size divided by the original size."""
        return self.bytes_after / self.bytes_before if self.bytes_before else 1.0


@dataclass(frozen=True)
class DecompressReport:
    """The report of `decompress`."""

    #: Whether every recorded file was restored byte for byte, with matching digests.
    original_restored: bool
    #: Whether there is a record of the originals. Otherwise plain tensors were written.
    recorded: bool
    #: Units decoded.
    units: int
    #: Weight files written.
    files: list[str]
    #: Their bytes.
    bytes: int
    #: Recorded files that differ from the original, written with their present content.
    changed: list[str]
    #: Recorded files that do not exist.
    missing: list[str]
    #: Files of the original that compression left out and that do not exist, with the reason.
    left_out: list[tuple[str, str]]
    #: Files that nothing records. They were copied.
    copied: list[str]
    #: Files that were not copied, with the reason.
    stays: list[tuple[str, str]]
    #: Files that an earlier run had restored, or that were there already.
    kept_files: int
    #: Warnings for the user.
    warnings: list[str]


@dataclass(frozen=True)
class VerifyReport:
    """The report of `verify`. There is one only if nothing was wrong."""

    #: Units. Every rule of each was checked, and every weight decoded.
    units: int
    #: Weights decoded.
    elements: int
    #: Tensors stored as frames, whose every checksum was compared.
    frames: int
    #: Tensors stored as deltas. With their bases, they were decoded.
    deltas: int
    #: Plain tensors.
    plain_tensors: int
    #: Tensors whose SHA-256 was compared with the one stored beside them.
    digests_checked: int
    #: Tensors without a stored digest: their files come from another program.
    digests_missing: int
    #: Files whose length and SHA-256 match the record.
    files_checked: int
    #: Tensors compared, as bits, with the original checkpoint.
    compared: int | None


@dataclass(frozen=True)
class InspectedUnit(UnitReport):
    """A unit, or tensors that could become one, as `inspect` reports it."""

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
    """The report of `inspect`."""

    #: Whether the figures describe compressed units. Otherwise they are a prediction.
    compressed: bool
    #: The origin of predicted units.
    units_from: str | None
    units: list[InspectedUnit]
    frames: list[FrameReport]
    plain: list[PlainReport]
    #: Bytes of all weight files.
    file_bytes: int
    #: Tensors that are stored against those of another checkpoint.
    deltas: list[DeltaReport] = field(default_factory=list)


def _one(kind: type[T], data: dict[str, Any]) -> T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in data.items() if key in known})


def load(kind: type[T], text: str) -> T:
    """Make a report from the JSON of the extension."""
    data = json.loads(text)
    unit = InspectedUnit if kind is InspectReport else UnitReport
    parts = {"units": unit, "frames": FrameReport, "plain": PlainReport, "deltas": DeltaReport}
    for key, part in parts.items():
        if isinstance(data.get(key), list):
            data[key] = [_one(part, entry) for entry in data[key]]
    for key in ("left_behind", "left_out", "stays"):
        if key in data:
            data[key] = [tuple(pair) for pair in data[key]]
    return _one(kind, data)
