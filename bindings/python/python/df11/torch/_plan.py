"""Which weights of a model are decoded together, and from which tensors of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .. import _df11
from .._arrays import TYPES, Torch
from .._errors import InvalidInputError
from .._open import _Tensor

#: The alignment of weights in a buffer, which suits vector instructions.
_ALIGNMENT = 64


class _Weight:
    """A parameter whose content stays compressed."""

    def __init__(
        self,
        parts: list[_Tensor],
        name: str,
        shape: torch.Size,
        dtype: str,
        device: torch.device,
    ) -> None:
        self.parts, self.name, self.shape = parts, name, shape
        self.dtype: torch.dtype = getattr(torch, TYPES[dtype][2])
        self.bytes = sum(part.bytes for part in parts)
        #: Every module that holds it, with the name of the parameter there.
        self.places: list[tuple[nn.Module, str]] = []
        self.parameter: nn.Parameter | None = None
        self.was_trained = False
        nan = math.nan if self.dtype.is_floating_point else 0
        one = torch.full((1,) * len(shape), nan, device=device)
        self.placeholder = one.to(self.dtype).expand(shape)

    def jobs(self, address: int) -> list[tuple[str, int, int, tuple[int, int]]]:
        """Return what to decode, and the memory for it."""
        all_jobs = []
        for part in self.parts:
            all_jobs.append((part.name, 0, part.elements, (address, part.bytes)))
            address += part.bytes
        return all_jobs

    def view(self, flat: torch.Tensor, offset: int) -> torch.Tensor:
        """Return its content in a buffer of bytes."""
        return flat[offset : offset + self.bytes].view(self.dtype).view(self.shape)


class _Block:
    """Weights that are decoded together."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.modules: list[nn.Module] = []
        self.weights: list[_Weight] = []
        self.offsets: list[int] = []
        self.bytes = 0
        #: Forwards that are running now, on all threads.
        self.users = 0
        self.flat: torch.Tensor | None = None
        #: The decoded rows, where only a part of a table was needed.
        self.rows: set[int] | None = None

    def add(self, weight: _Weight) -> None:
        """Give it another weight."""
        self.offsets.append(self.bytes)
        self.weights.append(weight)
        self.bytes += -(-weight.bytes // _ALIGNMENT) * _ALIGNMENT

    def jobs(self, flat: torch.Tensor) -> list[tuple[str, int, int, tuple[int, int]]]:
        """Return what to decode, and the memory for it."""
        pairs = zip(self.weights, self.offsets, strict=True)
        base = flat.data_ptr()
        return [job for weight, offset in pairs for job in weight.jobs(base + offset)]

    def install(self, flat: torch.Tensor) -> None:
        """Make the parameters views of a buffer."""
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            assert weight.parameter is not None
            weight.parameter.data = weight.view(flat, offset)
        self.flat = flat

    def uninstall(self) -> torch.Tensor | None:
        """Make the parameters placeholders again. Return the buffer."""
        for weight in self.weights:
            assert weight.parameter is not None
            weight.parameter.data = weight.placeholder
        flat, self.flat, self.rows = self.flat, None, None
        return flat


class _Plan:
    """Which tensor goes where. Making one changes nothing."""

    def __init__(
        self,
        module: nn.Module,
        path: str,
        reader: _df11.Reader,
        names: Mapping[str, Sequence[str]],
        blocks: Sequence[str] | None,
        only: set[str] | None = None,
        device: torch.device | None = None,
        decodes_vectors: bool = False,
    ) -> None:
        self.module, self.path, self.reader, self.chosen = module, path, reader, blocks
        #: Whether parameters of one dimension are filled at once, instead of staying compressed.
        self.decodes_vectors = decodes_vectors
        self.device = torch.device("cpu") if device is None else device
        tensors = {described[0]: _Tensor(described) for described in reader.tensors()}
        self.modules = dict(module.named_modules())
        self.weights: dict[int, _Weight] = {}
        #: Parameters and buffers that are filled at once, by name.
        self.plain: list[tuple[nn.Module, str, list[_Tensor], torch.Tensor]] = []
        self.block_paths: dict[int, list[str]] = {}
        used: set[str] = set()
        self.missing: list[str] = []
        found_ids: set[int] = set()
        every: list[tuple[str, nn.Module, str, torch.Tensor]] = []
        for owner_path, owner in module.named_modules(remove_duplicate=True):
            if "_df11" in owner.__dict__:
                problem = f"{owner_path or 'the module'}: its weights stay compressed already"
                raise InvalidInputError(problem + "; detach() them first")
            prefix = owner_path + "." if owner_path else ""
            own = [*owner._parameters.items(), *owner._buffers.items()]
            every += [(prefix + key, owner, key, value) for key, value in own if value is not None]
        for name, owner, key, value in every:
            if only is not None and name not in only:
                continue
            sources = [tensors[part] for part in names.get(name, [name]) if part in tensors]
            if len(sources) != len(names.get(name, [name])):
                continue
            used.update(source.name for source in sources)
            if id(value) in found_ids:
                continue
            found_ids.add(id(value))
            self._plan_one(name, owner, key, value, sources)
        for name, owner, key, value in every:
            if id(value) in self.weights:
                self.weights[id(value)].places.append((owner, key))
                self.block_paths.setdefault(id(value), []).append(self._block_path(name))
            elif id(value) not in found_ids and key not in owner._non_persistent_buffers_set:
                self.missing.append(name)
        self.unexpected = sorted(set(tensors) - used)

    def _plan_one(
        self, name: str, owner: nn.Module, key: str, value: torch.Tensor, sources: list[_Tensor]
    ) -> None:
        elements = sum(source.elements for source in sources)
        if elements != value.numel():
            shapes = ", ".join(str(source.shape) for source in sources)
            self._refuse(name, f"has the shape {shapes}, but {list(value.shape)} in the module")
        dtype = sources[0].dtype
        is_resident = isinstance(value, nn.Parameter) and not any(s.is_plain for s in sources)
        is_resident &= value.dim() > 1 or not self.decodes_vectors
        if not is_resident or elements == 0:
            self.plain.append((owner, key, sources, value))
            return
        wanted = getattr(torch, TYPES[dtype][2]) if dtype in TYPES else None
        if value.dtype != wanted:
            own = str(value.dtype).removeprefix("torch.")
            fix = f"make the module with dtype=torch.{TYPES[dtype][2]}"
            self._refuse(name, f"is {dtype}, but {own} in the module; {fix}")
        self.weights[id(value)] = _Weight(sources, name, value.shape, dtype, self.device)

    def _refuse(self, name: str, problem: str) -> None:
        error = InvalidInputError(f"{self.path}: tensor {name}: {problem}")
        error.path, error.tensor = self.path, name
        raise error

    def _block_path(self, name: str) -> str:
        """Find the block of a parameter."""
        parts = name.split(".")[:-1]
        paths = [".".join(parts[:end]) for end in range(len(parts) + 1)]
        if self.chosen is not None:
            inside = [path for path in paths if path in self.chosen]
            if inside:
                return inside[0]
        for parent, path in pairwise(paths):
            lists = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
            if isinstance(self.modules[parent], lists) and _is_called(self.modules[path]):
                return path
            # It uses the weights of its output projection without calling that.
            if isinstance(self.modules[path], nn.MultiheadAttention):
                return path
        while len(paths) > 1 and not _is_called(self.modules[paths[-1]]):
            paths.pop()
        return paths[-1]

    def check(self, strict: bool) -> None:
        """Refuse what does not fit."""
        on_meta = [n for n in self.missing if _of(self.module, n).device.type == "meta"]
        if not strict:
            if on_meta:
                what = "are not in the checkpoint, and have no content in the module"
                raise InvalidInputError(f"{self.path}: {', '.join(on_meta)} {what}")
            return
        for names, what in (
            (self.missing, "parameters of the module are not in it"),
            (self.unexpected, "tensors in it are not in the module"),
        ):
            if names:
                some = ", ".join(names[:5]) + (", .." if len(names) > 5 else "")
                fix = "strict=False leaves them"
                raise InvalidInputError(f"{self.path}: {len(names)} {what}: {some}; {fix}")
        if not self.weights:
            problem = "none of its tensors is compressed, so that none can stay so"
            raise InvalidInputError(f"{self.path}: {problem}")

    def make_blocks(self) -> list[_Block]:
        """Make the blocks, in the order of the module."""
        by_path: dict[str, _Block] = {}
        for key, weight in self.weights.items():
            paths = self.block_paths[key]
            own = [by_path[path] for path in paths if path in by_path]
            block = own[0] if own else _Block(paths[0])
            # Blocks that share a weight become one.
            for other in own[1:]:
                if other is not block:
                    for shared in other.weights:
                        block.add(shared)
                    for path, known in by_path.items():
                        if known is other:
                            by_path[path] = block
            block.add(weight)
            for path in paths:
                by_path[path] = block
        for path, block in by_path.items():
            block.modules.append(self.modules[path])
        return list(dict.fromkeys(by_path.values()))

    def load_plain(self, threads: int) -> None:
        """Fill what does not stay compressed."""
        maker = Torch()
        made, jobs = [], []
        for _, _, sources, value in self.plain:
            flat = maker.empty(sources[0].dtype, [sum(s.elements for s in sources)])
            address, _ = maker.address(flat)
            for source in sources:
                jobs.append((source.name, 0, source.elements, (address, source.bytes)))
                address += source.bytes
            made.append((value, flat))
        self.reader.decode(jobs, threads)
        replaced: dict[int, torch.Tensor] = {}
        for value, flat in made:
            content = flat.view(value.shape).to(value.dtype)
            if value.device.type != "meta":
                with torch.no_grad():
                    value.copy_(content)
                continue
            content = content.to(self.device)
            if isinstance(value, nn.Parameter):
                replaced[id(value)] = nn.Parameter(content, requires_grad=value.requires_grad)
            else:
                replaced[id(value)] = content
        for owner in self.module.modules():
            dictionaries: list[dict[str, Any]] = [owner._parameters, owner._buffers]
            for held in dictionaries:
                for key, old in held.items():
                    if old is not None and id(old) in replaced:
                        held[key] = replaced[id(old)]


def _of(module: nn.Module, name: str) -> torch.Tensor:
    parent, _, key = name.rpartition(".")
    found = getattr(module.get_submodule(parent), key)
    assert isinstance(found, torch.Tensor)
    return found


def _is_called(module: nn.Module) -> bool:
    """Tell whether a module has a forward, which lists of modules and of parameters do not."""
    lists = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
    return not isinstance(module, lists)
