"""Tensors out of a checkpoint, in the shape of safetensors."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from . import _df11
from ._arrays import TYPES, Framework, count, framework
from ._errors import InvalidInputError, UnknownTensorError
from ._files import Path, PatternDict, as_json


class _Tensor:
    """The properties of a tensor that are known without decoding it."""

    __slots__ = ("bytes", "dtype", "elements", "is_plain", "name", "shape", "unit")

    def __init__(self, described: tuple[str, str, list[int], int, int, int | None, bool]) -> None:
        (self.name, self.dtype, self.shape, self.elements, self.bytes, self.unit, self.is_plain) = (
            described
        )


class safe_open:
    """Opens a checkpoint, compressed or plain, and decodes its tensors on demand.

    Takes the arguments of `safetensors.safe_open`, and a directory as well as a file. Whatever is
    decoded goes straight into the memory of the tensor that is returned. Tensors may be asked for
    from many threads, and from processes that forked.

    Args:
        filename: A safetensors file, or a directory in Hugging Face form, or the address of one in
            a store (`s3://..`), of which each call reads the ranges that it decodes.
        framework: `pt` or `np`.
        device: Where tensors of PyTorch are wanted.
        backend: As in safetensors; files are always mapped.
        threads: How many decode; 0 for as many as there are processors.
        pattern_dict: For files of other programs without a configuration: names the tensors.

    """

    def __init__(
        self,
        filename: Path,
        framework: str = "pt",
        device: Any = "cpu",
        *,
        backend: str = "mmap",
        threads: int = 0,
        pattern_dict: PatternDict | None = None,
    ) -> None:
        self._maker: Framework = _framework(framework, device)
        self._path = os.fspath(filename)
        self._threads = threads
        reader = _df11.Reader(self._path, as_json(pattern_dict))
        self._reader: _df11.Reader | None = reader
        self._tensors = {described[0]: _Tensor(described) for described in reader.tensors()}

    def __enter__(self) -> safe_open:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader = None

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def _open(self) -> _df11.Reader:
        if self._reader is None:
            raise InvalidInputError(f"{self._path} was closed; open it again")
        return self._reader

    def _find(self, name: str) -> _Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            problem = f"{self._path}: tensor {name}: is not in this checkpoint"
            raise UnknownTensorError(problem) from None

    def keys(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return list(self._tensors)

    def offset_keys(self) -> list[str]:
        """Return the names of all tensors in the order in which they are stored."""
        return self._open().stored_order()

    def metadata(self) -> dict[str, str] | None:
        """Return the metadata of the original files, or None if they had none."""
        return self._open().metadata() or None

    def stored_bytes(self) -> int:
        """Return the bytes of all tensors as they are stored."""
        return self._open().stored_bytes()

    def get_tensor(self, name: str) -> Any:
        """Decode a whole tensor."""
        return self.get_tensors([name])[name]

    def get_tensors(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Decode these tensors, or all, on several threads."""
        reader, maker = self._open(), self._maker
        found = [self._find(name) for name in (self._tensors if names is None else names)]
        made = {tensor.name: maker.empty(tensor.dtype, tensor.shape) for tensor in found}
        jobs = [(t.name, 0, t.elements, maker.address(made[t.name])) for t in found]
        reader.decode(jobs, self._threads)
        return {name: maker.finish(tensor) for name, tensor in made.items()}

    def get_part(self, rank: int, ranks: int, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Decode one rank's rows of these tensors, or of all: the `rank`-th of `ranks` equal parts.

        Rows are positions of the first dimension. Where they cannot be divided evenly, parts differ
        by one row. A tensor without dimensions is decoded by every rank. From a store, little more
        than the part is read.
        """
        if not 0 <= rank < ranks:
            raise InvalidInputError(f"there is no rank {rank} of {ranks}")
        reader, maker = self._open(), self._maker
        made, jobs = {}, []
        for tensor in (self._find(name) for name in (self._tensors if names is None else names)):
            rows = tensor.shape[0] if tensor.shape else 0
            if rows == 0 or TYPES.get(tensor.dtype, (0, None, ""))[0] < 8:
                start, end, shape = 0, tensor.elements, list(tensor.shape)
            else:
                first, last = rows * rank // ranks, rows * (rank + 1) // ranks
                width = tensor.elements // rows
                start, end, shape = first * width, last * width, [last - first, *tensor.shape[1:]]
            made[tensor.name] = maker.empty(tensor.dtype, shape)
            jobs.append((tensor.name, start, end, maker.address(made[tensor.name])))
        reader.decode(jobs, self._threads)
        return {name: maker.finish(tensor) for name, tensor in made.items()}

    def get_slice(self, name: str) -> Slice:
        """Return a view of a tensor, which decodes only the elements that it is indexed with."""
        self._open()
        return Slice(self, self._find(name))

    def _rows(self, tensor: _Tensor, runs: Sequence[tuple[int, int]], shape: Sequence[int]) -> Any:
        """Decode runs of elements, one after the other, into a tensor of this shape."""
        out = self._maker.empty(tensor.dtype, shape)
        address, _ = self._maker.address(out)
        size, jobs = TYPES[tensor.dtype][0] // 8, []
        for start, end in runs:
            jobs.append((tensor.name, start, end, (address, size * (end - start))))
            address += size * (end - start)
        self._open().decode(jobs, self._threads)
        return out


_framework = framework


class Slice:
    """A tensor that is decoded where it is indexed: `slice[2:5]`, `slice[7, ..., ::2]`.

    Indices mean what they mean for a tensor of the framework. Of the first dimensions, only the
    rows that are asked for are decoded, to the next boundary of a block or a chunk.
    """

    def __init__(self, opened: safe_open, tensor: _Tensor) -> None:
        self._opened, self._tensor = opened, tensor

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Return the type of the elements, as safetensors names it."""
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        tensor, maker = self._tensor, self._opened._maker
        entries = index if isinstance(index, tuple) else (index,)
        if TYPES.get(tensor.dtype, (0, None, ""))[0] < 8:
            return self._opened.get_tensor(tensor.name)[index]
        if not all(map(_is_basic, entries)):
            rows = _rows(index, tensor.shape)
            if rows is None:
                return self._opened.get_tensor(tensor.name)[index]
            width = count(tensor.shape[1:])
            runs = [(width * row, width * (row + 1)) for row in rows]
            shape = [len(rows), *tensor.shape[1:]]
            return maker.finish(self._opened._rows(tensor, _joined(runs), shape))
        run, shape, rest = _cut(entries, tensor.shape)
        out = self._opened._rows(tensor, [run], shape)
        # The remaining steps copy where they omit much, so that the rest is not kept alive.
        found = out[rest] if rest else out
        if 2 * count(found.shape) < count(shape):
            found = found.clone() if hasattr(found, "clone") else found.copy()
        return maker.finish(found)


def _is_basic(entry: Any) -> bool:
    """Tell whether an entry of an index chooses a range, one position, or nothing."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return True
    return _integer(entry) is not None


def _integer(entry: Any) -> int | None:
    if isinstance(entry, bool) or type(entry).__name__ in ("bool_", "bool"):
        return None
    if getattr(entry, "ndim", 0) != 0 or "bool" in str(getattr(entry, "dtype", "")):
        return None
    try:
        return operator.index(entry)
    except TypeError:
        return None


def _position(entry: int, dimension: int, size: int) -> int:
    if not -size <= entry < size:
        problem = f"index {entry} is out of bounds for dimension {dimension} with size {size}"
        raise IndexError(problem)
    return entry % size


def _cut(
    entries: tuple[Any, ...], shape: Sequence[int]
) -> tuple[tuple[int, int], list[int], tuple[Any, ...]]:
    """Find the elements to decode for an index of integers, ranges, `...` and `None`.

    Returns the run of elements, the shape they have, and the index that is left to apply to them.
    """
    wanted = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if wanted > len(shape):
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    # Elements below a position of the current dimension.
    start, below, dimension = 0, count(shape), 0
    rest: list[Any] = []
    for at, entry in enumerate(entries):  # noqa: B007 (used after the loop)
        if entry is None:
            rest.append(None)
            continue
        number = None if entry is Ellipsis else _integer(entry)
        if number is None:
            break
        size = shape[dimension]
        position = _position(number, dimension, size)
        below //= size
        start += position * below
        dimension += 1
    else:
        return (start, start + below), list(shape[dimension:]), tuple(rest)
    if not isinstance(entry, slice):
        return (start, start + below), list(shape[dimension:]), (*rest, *entries[at:])
    size = shape[dimension]
    first, last, step = _range(entry, size)
    below = below // size if size else 0
    chosen = range(first, last, step)
    length = chosen[-1] + 1 - first if chosen else 0
    run = (start + first * below, start + (first + length) * below) if length else (start, start)
    shape = [length, *shape[dimension + 1 :]]
    return run, shape, (*rest, slice(None, None, step), *entries[at + 1 :])


def _range(entry: slice, size: int) -> tuple[int, int, int]:
    if entry.step is not None and operator.index(entry.step) <= 0:
        raise ValueError("slice step must be positive")
    return entry.indices(size)


def _rows(index: Any, shape: Sequence[int]) -> list[int] | None:
    """Read an index that lists rows: integers in a list, or in one dimension of an array."""
    if isinstance(index, tuple) or not shape:
        return None
    if hasattr(index, "tolist"):
        if getattr(index, "ndim", 0) != 1 or "int" not in str(index.dtype):
            return None
        index = index.tolist()
    if not isinstance(index, list) or any(type(row) is not int for row in index):
        return None
    return [_position(row, 0, shape[0]) for row in index]


def _joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join runs that follow one another."""
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
