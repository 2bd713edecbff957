"""Compressed files of PyTorch tensors, and models whose weights stay compressed in memory.

Has the functions of `safetensors.torch`; reading takes plain files as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .. import _saving
from .._errors import InvalidInputError
from .._files import Options, Path
from .._open import safe_open
from ._attach import attach
from ._attached import Attached

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "Attached",
    "attach",
    "load",
    "load_file",
    "load_model",
    "save",
    "save_file",
    "save_model",
]

Tensors = dict[str, torch.Tensor]


def save_file(
    tensors: Tensors,
    filename: Path,
    metadata: dict[str, str] | None = None,
    **options: Unpack[Options],
) -> None:
    """Write tensors to a compressed file. The keyword arguments are those of `df11.compress`."""
    from safetensors.torch import save_file as save_plain

    def write(path: str) -> None:
        save_plain(tensors, path, metadata)

    _saving.save_file(write, filename, options)


def save(
    tensors: Tensors,
    metadata: dict[str, str] | None = None,
    **options: Unpack[Options],
) -> bytes:
    """Compress tensors into the bytes of a file."""
    from safetensors.torch import save_file as save_plain

    def write(path: str) -> None:
        save_plain(tensors, path, metadata)

    return _saving.save(write, options)


def save_model(
    model: torch.nn.Module,
    filename: Path,
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
    **options: Unpack[Options],
) -> None:
    """Write a model to a compressed file; tensors that share memory are written once."""
    from safetensors.torch import save_model as save_plain

    def write(path: str) -> None:
        save_plain(model, path, metadata, force_contiguous)

    _saving.save_file(write, filename, options)


def load_file(
    filename: Path,
    device: Any = "cpu",
    *,
    backend: str = "mmap",
    threads: int = 0,
    part: tuple[int, int] | None = None,
) -> Tensors:
    """Decode all tensors of a file, a directory or an address in a store, on several threads.

    With `part=(rank, ranks)`, only that rank's rows of each tensor are read and decoded.
    """
    with safe_open(filename, "pt", device, backend=backend, threads=threads) as opened:
        return opened.get_tensors() if part is None else opened.get_part(*part)


def load(data: bytes, *, threads: int = 0) -> Tensors:
    """Decode all tensors from the bytes of a file."""
    with _saving.Bytes(data) as path:
        return load_file(path, threads=threads)


def load_model(
    model: torch.nn.Module,
    filename: Path,
    strict: bool = True,
    device: Any = "cpu",
    *,
    backend: str = "mmap",
    threads: int = 0,
) -> tuple[list[str], list[str]]:
    """Decode a file into a model. Returns the names that were missing, and those of no use.

    Tensors that share memory in the model may be in the file once, under any of their names. Each
    tensor is decoded where it is needed, so that little beside the model is in memory.
    """
    state, shared = model.state_dict(keep_vars=True), _shared(model)
    missing, unexpected = set(state), []
    with safe_open(filename, "pt", device, backend=backend, threads=threads) as opened:
        for name in opened.offset_keys():
            if name not in state:
                unexpected.append(name)
                continue
            own = state[name]
            if tuple(own.shape) != tuple(opened.get_slice(name).get_shape()):
                shapes = f"{opened.get_slice(name).get_shape()}, but {list(own.shape)} in the model"
                raise InvalidInputError(f"tensor {name} has the shape {shapes}")
            with torch.no_grad():
                own.copy_(opened.get_tensor(name))
            missing -= shared.get(name, {name})
    if strict and (missing or unexpected):
        parts = [
            f"{what} key(s) in state_dict: {', '.join(map(repr, sorted(names)))}"
            for what, names in (("Missing", missing), ("Unexpected", unexpected))
            if names
        ]
        problem = f"Error(s) in loading state_dict for {type(model).__name__}: "
        raise RuntimeError(problem + "; ".join(parts))
    return sorted(missing), sorted(unexpected)


def _shared(model: torch.nn.Module) -> dict[str, set[str]]:
    """Find the names of each tensor of a model that has several."""
    names: dict[int, set[str]] = {}
    every: list[tuple[str, torch.Tensor]] = [*model.named_parameters(remove_duplicate=False)]
    every += [*model.named_buffers(remove_duplicate=False)]
    for name, tensor in every:
        names.setdefault(id(tensor), set()).add(name)
    return {name: group for group in names.values() for name in group}
