"""Tensors as deltas: what a tensor needs to be stored or sent where another, near to it, is known.

`encode` makes a delta of a tensor and its *base*, the tensor as it was a training step or a
fine-tuning before; `apply` gives the tensor back, bit for bit, where the base is. `encode_all` and
`apply_all` do that for the tensors of a model, on several threads. With `out=base`, weights are
changed where they are, and nearly all of them are only read. Where they are on a card, its kernels
apply deltas there.

A delta knows its base by checksums of 32 bits, so a wrong one is refused. What is kept should keep
a cryptographic digest of its base besides, as `df11.compress` with `base` does for checkpoints.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import _df11
from ._arrays import TYPES, Numpy, Torch, native, numpy_name
from ._errors import InvalidInputError, UnsupportedError

__all__ = ["Description", "apply", "apply_all", "describe", "encode", "encode_all"]

#: Types that deltas know. Elements of others are bytes to them, as many as an element has.
_KNOWN = ("U8", "BF16", "F16", "F32", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Description:
    """What a delta says of itself. None of this needs the base."""

    #: The type of elements, as safetensors calls it; `U8` also for types that deltas do not know.
    dtype: str
    #: How they are held: the same as the base's, a list of those that differ, the differences of
    #: all, or a frame that needs no base.
    method: Literal["same", "list", "coded", "frame"]
    #: Elements of the result.
    elements: int
    #: Elements that are given against the base.
    common: int
    #: How many of these are not those of the base.
    changed: int


def _is_torch(array: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(array).__mro__)


def _dtype(array: Any, what: str, place: Any = None) -> str:
    """Return the name that safetensors has for the type; checks where the memory is."""
    if not _is_torch(array):
        if place is not None or not isinstance(array, np.ndarray | np.generic):
            wanted = "an array of NumPy or PyTorch" if place is None else f"a tensor on {place}"
            raise InvalidInputError(f"{what}: is a {type(array).__name__}, not {wanted}")
        return numpy_name(array.dtype)
    device = Torch().torch.device("cpu") if place is None else place
    if array.device != device or array.layout is not Torch().torch.strided:
        problem = f"{what}: is {array.layout} on {array.device}; deltas are made of dense tensors"
        raise UnsupportedError(problem + " on the CPU, and applied to such, or to all on one card")
    name = str(array.dtype).removeprefix("torch.")
    found = next((known for known, types in TYPES.items() if types[2] == name), None)
    if found is None:
        raise UnsupportedError(f"{what}: elements of type {name} cannot be stored")
    return found


def _held(array: Any) -> Any:
    """Return the array with its elements in one piece, copied only if they are not."""
    if _is_torch(array):
        return array.detach().resolve_conj().resolve_neg().contiguous()
    return np.asarray(array, native(array.dtype), order="C")


def _empty(like: Any, shape: tuple[int, ...]) -> Any:
    if _is_torch(like):
        return Torch().torch.empty(shape, dtype=like.dtype, device=like.device)
    return np.empty(shape, native(like.dtype))


def _address(array: Any) -> tuple[int, int]:
    address: tuple[int, int] = (Torch() if _is_torch(array) else Numpy()).address(array)
    return address


def _element(dtype: str) -> tuple[str, int]:
    """Return the type that a delta has for elements of this type, and how many each of them is."""
    return (dtype, 1) if dtype in _KNOWN else ("U8", TYPES[dtype][0] // 8)


def _prefix(name: str | None, what: str) -> str:
    return what if name is None else f"tensor {name}: {what}"


#: The lengths that a block may have, and what they are multiples of (section 3 of spec/DELTA.md).
_LENGTHS, _CHUNK = range(1 << 12, (1 << 20) + 1), 64


def encode(new: Any, base: Any, *, block: int | None = None) -> bytes:
    """Encode `new` as a delta against `base`.

    Args:
        new: An array of NumPy or a tensor of PyTorch, on the CPU, of any type.
        base: Another of the same type and shape; its first dimension may be another, so that a
            table that has grown is stored by its new rows.
        block: How many elements a block has, a multiple of 64 from 4,096 to 1,048,576; by default,
            what makes the delta shortest. Short blocks are applied side by side by a card.

    """
    return _encode({None: new}, {None: base}, 1, block)[None]


def encode_all(
    new: Mapping[str, Any],
    base: Mapping[str, Any],
    *,
    threads: int = 0,
    block: int | None = None,
) -> dict[str, bytes]:
    """Encode all tensors of `new` as deltas against those of the same names in `base`.

    Args:
        new: Tensors by name, such as `dict(model.named_parameters())`.
        base: The tensors that they are near to.
        threads: How many; 0 for as many as there are processors.
        block: As for `encode`.

    """
    return _encode(new, base, threads, block)


def _encode(
    new: Mapping[Any, Any], base: Mapping[Any, Any], threads: int, block: int | None
) -> dict[Any, bytes]:
    if block is not None and (block not in _LENGTHS or block % _CHUNK):
        problem = f"a block has a multiple of {_CHUNK} elements, from {_LENGTHS.start:,} to"
        raise InvalidInputError(f"{problem} {_LENGTHS[-1]:,}, not {block!r}")
    work, held = [], []
    for name, tensor in new.items():
        before = _of(base, name, "base")
        dtype, found = _dtype(tensor, _prefix(name, "new")), _dtype(before, _prefix(name, "base"))
        if dtype != found:
            problem = f"has elements of type {dtype}, and its base has {found}"
            raise InvalidInputError(_prefix(name, problem))
        shape, old = tuple(tensor.shape), tuple(before.shape)
        rows = bool(shape) and bool(old) and shape[1:] == old[1:] and math.prod(shape[1:]) > 0
        if shape != old and not rows:
            problem = f"has the shape {shape}, and its base has {old}; only the first dimension"
            raise InvalidInputError(_prefix(name, problem + " may be another"))
        tensor, before = _held(tensor), _held(before)
        held.append((tensor, before))
        work.append((_element(dtype)[0], _address(tensor), _address(before)))
    deltas = _df11.encode_deltas(_names(new), work, threads, block)
    return dict(zip(new, deltas, strict=True))


def apply(base: Any, delta: Any, out: Any = None) -> Any:
    """Restore the tensor that `delta` was made of. Returns it: `out`, if that is given.

    Everything is compared with its checksum before any element of `out` is changed.

    Args:
        base: The base, an array of NumPy or a tensor of PyTorch, on the CPU or on a card.
        delta: The delta: bytes, or anything whose memory Python can see.
        out: Where the elements go: a tensor in one piece, of the type of the base and as large as
            the result. With `out=base`, the base itself becomes the result. By default, a new one.

    """
    bases, deltas, outs = {None: base}, {None: delta}, None if out is None else {None: out}
    return _apply(bases, deltas, outs, 1, _machine_of(bases, deltas))[None]


def apply_all(
    base: Mapping[str, Any],
    deltas: Mapping[str, Any],
    *,
    out: Mapping[str, Any] | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Restore the tensors that `deltas` were made of, on several threads.

    If a base is wrong or a delta damaged, nothing is changed: all are compared with their checksums
    before the first is applied. (Not so the frames of tensors that need no base, which are checked
    as they are decoded; and Ctrl-C stops between tensors.)

    Where all bases are on one card, deltas are applied there, by one launch of each kernel for all
    tensors, on PyTorch's current stream, and the call waits for that. All bases are compared
    before the first element changes, and results afterwards. (An `out` that is not the base is
    given its elements before that.) A warp applies a block, so a card has
    more to do at a time if deltas were encoded with short blocks.

    Args:
        base: The bases by name.
        deltas: The deltas by name.
        out: Where the elements go, by name; with `out=base`, the bases become the results. A
            memory is written once: leave out further names of shared weights, as
            `named_parameters()` does. By default, new tensors.
        threads: How many; 0 for as many as there are processors.

    """
    return _apply(base, deltas, out, threads, _machine_of(base, deltas))


def _apply(
    base: Mapping[Any, Any],
    deltas: Mapping[Any, Any],
    out: Mapping[Any, Any] | None,
    threads: int,
    machine: Any = None,
) -> dict[Any, Any]:
    """Apply deltas on the CPU, or by the kernels of a device, which do it in place."""
    place = None if machine is None else machine.device
    work, held, results = [], [], {}
    for name, delta in deltas.items():
        before = _of(base, name, "base")
        dtype = _dtype(before, _prefix(name, "base"), place)
        data = np.frombuffer(delta, np.uint8)
        element, each = _element(dtype)
        found, _, elements, *_ = _df11.describe_delta(Numpy().address(data))
        if found != element:
            problem = f"the delta holds elements of type {found}, and the base has {dtype}"
            raise InvalidInputError(_prefix(name, problem))
        if out is None:
            shape = _shape(name, tuple(before.shape), elements, each)
            result = _empty(before, shape)
        else:
            result = _of(out, name, "out")
            _expect_writable(name, result, dtype, elements // each, place)
        results[name] = result
        # In place, the memory itself is what counts; elsewhere, a copy in one piece will do.
        if result is not before:
            before = _held(before) if machine is None else _copied(before, result)
        held.append((data, before))
        memory = _address(result)
        work.append((element, Numpy().address(data), _address(before), memory))
    if machine is None:
        _df11.apply_deltas(_names(deltas), work, threads)
    else:
        changed = [(element, data, memory) for element, data, _, memory in work]
        machine.gpu.update(_names(deltas), changed, machine.handle(machine.current()))
    for result in results.values():
        if _is_torch(result) and out is not None and not result.is_inference():
            # What autograd kept of the old elements must not be used with the new ones.
            Torch().torch.autograd.graph.increment_version(result)
    return results


def _machine_of(base: Mapping[Any, Any], deltas: Mapping[Any, Any]) -> Any:
    """Return the card that one of the bases is on, or None."""
    known = [base[name] for name in deltas if name in base and _is_torch(base[name])]
    card = next((tensor.device for tensor in known if tensor.device.type == "cuda"), None)
    return None if card is None else _card(card)


@functools.cache
def _card(device: Any) -> Any:
    """Open a card once: its kernels are loaded then."""
    from .torch._machine import Card

    return Card(device)


def _copied(before: Any, result: Any) -> Any:
    """Give a result the elements that it has in common with its base."""
    common = min(result.numel(), before.numel())
    with Torch().torch.no_grad():
        result.view(-1)[:common].copy_(before.reshape(-1)[:common])
    return result


def _shape(name: str | None, shape: tuple[int, ...], elements: int, each: int) -> tuple[int, ...]:
    """Return the shape of a result: that of the base, but for the number of rows."""
    count, width = elements // each, math.prod(shape[1:])
    if elements == each * math.prod(shape):
        return shape
    if not shape or width == 0 or elements % (each * width):
        problem = f"the delta has {count} elements, which are no rows of a base of shape {shape}"
        raise InvalidInputError(_prefix(name, problem))
    return (count // width, *shape[1:])


def _expect_writable(name: str | None, out: Any, dtype: str, count: int, place: Any = None) -> None:
    found = _dtype(out, _prefix(name, "out"), place)
    if found != dtype:
        problem = f"out has elements of type {found}, and the base has {dtype}"
    elif math.prod(out.shape) != count:
        problem = f"out has {math.prod(out.shape)} elements, and the result has {count}"
    elif not _is_in_one_piece(out):
        problem = "out is not in one piece of writable memory; make it contiguous"
    else:
        return
    raise InvalidInputError(_prefix(name, problem))


def _is_in_one_piece(out: Any) -> bool:
    if _is_torch(out):
        return bool(out.is_contiguous()) and not (out.is_conj() or out.is_neg())
    return bool(out.flags.c_contiguous and out.flags.writeable and out.dtype.isnative)


def _of(tensors: Mapping[Any, Any], name: Any, what: str) -> Any:
    if name not in tensors:
        raise InvalidInputError(f"tensor {name}: there is no {what} of this name")
    return tensors[name]


def _names(tensors: Mapping[Any, Any]) -> list[str]:
    return [] if None in tensors else [str(name) for name in tensors]


def describe(delta: Any) -> Description:
    """Return what a delta says of itself."""
    data = np.frombuffer(delta, np.uint8)
    dtype, method, elements, common, changed = _df11.describe_delta(Numpy().address(data))
    return Description(dtype, method, elements, common, changed)
