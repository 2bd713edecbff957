"""Models whose weights stay compressed in memory.

A *block* is what is decoded at once: an element of a list of modules (a transformer's layer), or,
outside of lists, the module that owns the weight. Just before a block's forward its weights are
decoded into one buffer, and its parameters are made views of that; afterwards they become
placeholders again, which have the right shape and type and hold NaN without taking memory: a weight
that is used outside of its block's forward cannot give a number that looks like an answer.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .. import _df11
from .._errors import InvalidInputError, UnsupportedError
from ._hooks import Uncompiled, chosen_rows, is_unshared, refuse_pickling, row_jobs
from ._plan import _Block, _Weight


class Attached:
    """Keeps a module's weights compressed; `attach` makes it.

    Attributes:
        module: The module.
        path: The checkpoint.
        prefetch: As it was given.
        missing: Parameters of the module that the checkpoint does not have.
        unexpected: Tensors of the checkpoint that the module does not have.
        peak_buffer_bytes: The most bytes of buffers that there were at once.

    """

    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    #: Whether single rows of a table can be decoded.
    _decodes_rows = True

    def __init__(
        self,
        module: nn.Module,
        path: str,
        reader: _df11.Reader,
        blocks: list[_Block],
        prefetch: int,
        threads: int,
    ) -> None:
        self.module, self.path, self.prefetch = module, path, prefetch
        self._reader: _df11.Reader = reader
        self._blocks, self._threads = blocks, threads
        self._device = torch.device("cpu")
        self._stored_bytes = reader.stored_bytes()
        self._lock = threading.RLock()
        self._running = threading.local()
        #: Buffers that are free, all of one size.
        self._free: list[torch.Tensor] = []
        self._next: dict[int, _Block] = {id(block): after for block, after in pairwise(blocks)}
        self._last: _Block | None = None
        self._ahead: tuple[_Block, torch.Tensor, Future[None] | None] | None = None
        self._executor: tuple[int, ThreadPoolExecutor] | None = None
        self._live: dict[int, _Block] = {}
        self._decoded: weakref.WeakValueDictionary[int, torch.Tensor] = (
            weakref.WeakValueDictionary()
        )
        self._handles: list[Any] = []
        self.peak_buffer_bytes = 0

    @property
    def blocks(self) -> list[str]:
        """The paths of the blocks."""
        return [block.path for block in self._blocks]

    @property
    def stored_bytes(self) -> int:
        """The bytes of the checkpoint's tensors as they are stored, and stay."""
        return self._stored_bytes

    @property
    def largest_block_bytes(self) -> int:
        """The bytes of the largest block's buffer."""
        return max(block.bytes for block in self._blocks)

    @property
    def parameter_names(self) -> list[str]:
        """The names of the parameters that stay compressed."""
        return [weight.name for block in self._blocks for weight in block.weights]

    def __repr__(self) -> str:
        return f"Attached({self.path!r}, {len(self._blocks)} blocks, {self.stored_bytes:,} bytes)"

    def __deepcopy__(self, memo: object) -> Attached:
        raise InvalidInputError(
            "a module whose weights are compressed cannot be copied: make it again and attach to it"
        )

    def __reduce_ex__(self, protocol: object) -> Any:
        refuse_pickling()

    def check(self) -> None:
        """Wait for a card, and raise if something that it decoded was damaged.

        On a card, a forward raises what earlier forwards have found. On the CPU, each raises what
        it finds itself, and this does nothing.
        """

    def detach(self) -> None:
        """Decode all weights into the module, for good; it is then as one never compressed."""
        with self._lock:
            self._forget_ahead()
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            for block in self._blocks:
                for weight in block.weights:
                    assert weight.parameter is not None
                    weight.parameter.data = self._decode_lasting(weight)
                    weight.parameter.requires_grad_(weight.was_trained)
                    for owner, _ in weight.places:
                        owner.__dict__.pop("_apply", None)
                        owner.__dict__.pop("_df11", None)
            for key in ("_apply", "_df11"):
                self.module.__dict__.pop(key, None)
            self._free.clear()
            self._shut_down()

    def _shut_down(self) -> None:
        if self._executor is not None:
            self._executor[1].shutdown(wait=False)
            self._executor = None

    # What is done to the module.

    def _install(self) -> None:
        for block in self._blocks:
            for weight in block.weights:
                owner, key = weight.places[0]
                parameter = owner._parameters[key]
                assert parameter is not None
                weight.was_trained = parameter.requires_grad
                if parameter.device.type == "meta":
                    parameter = nn.Parameter(weight.placeholder, requires_grad=False)
                    for owner, key in weight.places:
                        owner._parameters[key] = parameter
                else:
                    parameter.data = weight.placeholder
                    parameter.requires_grad_(False)
                weight.parameter = parameter
                for owner, key in weight.places:
                    self._guard(owner, key, weight)
            for module in block.modules:
                self._hook(block, module)
        # Last, so that it comes first: a module is changed whole, or not at all.
        self._guard_root()

    def _guard_root(self) -> None:
        outer = self.module._apply

        def apply(
            function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
        ) -> nn.Module:
            for block in self._blocks:
                for weight in block.weights:
                    self._probe(weight, function)
            outer(function, recurse)
            return self.module

        self.module.__dict__["_apply"] = apply
        # Copying or pickling the module finds this.
        self.module.__dict__["_df11"] = self

    def _probe(self, weight: _Weight, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Refuse what would change a weight."""
        probe = function(torch.empty(0, dtype=weight.dtype, device=self._device))
        if probe.dtype != weight.dtype or probe.device != self._device:
            what = f"{str(probe.dtype).removeprefix('torch.')} on {probe.device}"
            problem = (
                f"{self.path}: tensor {weight.name}: stays compressed, and cannot become {what}"
            )
            raise UnsupportedError(problem + "; detach() the module first")

    def _hook(self, block: _Block, module: nn.Module) -> None:
        is_table = isinstance(module, nn.Embedding) and len(block.weights) == 1
        is_table = is_table and self._decodes_rows

        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            rows = chosen_rows(args, block.weights[0].shape) if is_table else None
            self._acquire(block, rows)
            hooks = None
            if torch.is_grad_enabled():
                hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
                hooks.__enter__()  # type: ignore[no-untyped-call]
            self._stack().append((block, hooks))

        def after(*_: Any) -> None:
            stack = self._stack()
            # If `before` itself failed, there is nothing to take back.
            if stack and stack[-1][0] is block:
                hooks = stack.pop()[1]
                if hooks is not None:
                    hooks.__exit__()
                self._release(block)

        self._handles.append(module.register_forward_pre_hook(Uncompiled(before)))
        hook = module.register_forward_hook(Uncompiled(after), always_call=True)
        self._handles.append(hook)

    def _stack(self) -> list[tuple[_Block, Any]]:
        stack: list[tuple[_Block, Any]] | None = getattr(self._running, "stack", None)
        if stack is None:
            stack = self._running.stack = []
        return stack

    def _guard(self, owner: nn.Module, key: str, weight: _Weight) -> None:
        """Make a module give its weight, and refuse to change it."""

        def give(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
            if prefix + key in state:
                state[prefix + key] = self._whole(weight)

        def refuse(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
            if prefix + key in state:
                problem = (
                    f"{self.path}: tensor {weight.name}: stays compressed, so that nothing can"
                )
                fix = " be loaded into it; detach() the module first"
                raise InvalidInputError(problem + fix)

        def apply(
            function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
        ) -> nn.Module:
            kept = {}
            for name, parameter in [*owner._parameters.items()]:
                if parameter is not None and parameter is weight.parameter:
                    self._probe(weight, function)
                    kept[name] = parameter
                    owner._parameters[name] = None
            try:
                outer(function, recurse)
            finally:
                owner._parameters.update(kept)
            return owner

        outer = owner._apply
        owner.__dict__["_apply"] = apply
        owner.__dict__["_df11"] = self
        self._handles.append(owner.register_state_dict_post_hook(give))
        self._handles.append(owner.register_load_state_dict_pre_hook(refuse))

    # Decoding.

    def _new(self, size: int) -> torch.Tensor:
        """Take a free buffer of this size, or make one."""
        # Those of another size would stay beside it.
        self._free = [flat for flat in self._free if flat.numel() == size]
        if self._free:
            return self._free.pop()
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def _give_back(self, flat: torch.Tensor | None) -> None:
        """Keep a buffer for the next block, if nothing else refers to it."""
        if flat is None or len(self._free) > self.prefetch:
            return
        if is_unshared(flat):
            self._free.append(flat)

    def _note_peak(self) -> None:
        held = sum(block.flat.numel() for block in self._live.values() if block.flat is not None)
        held += sum(flat.numel() for flat in self._free)
        held += 0 if self._ahead is None else self._ahead[1].numel()
        self.peak_buffer_bytes = max(self.peak_buffer_bytes, held)

    def _acquire(self, block: _Block, rows: list[int] | None) -> None:
        with self._lock:
            if block.users == 0 or (block.rows is not None):
                self._bring(block, rows)
            self._join(block)
            block.users += 1
            assert block.flat is not None
            self._live[block.flat.untyped_storage().data_ptr()] = block
            self._note_peak()
            if self._last is not None and self._last is not block:
                self._next[id(self._last)] = block
            self._last = block
            if self.prefetch:
                try:
                    self._look_ahead(block)
                except BaseException:
                    # The forward ends here, and nothing else would release the block.
                    Attached._release(self, block)
                    raise
                self._note_peak()

    def _bring(self, block: _Block, rows: list[int] | None) -> None:
        """Decode a block, or some rows of its table."""
        if rows is not None:
            if block.flat is None:
                # Pages that no row is in are never touched, and take no memory.
                block.install(torch.empty(block.bytes, dtype=torch.uint8, device=self._device))
                block.rows = set()
            assert block.rows is not None and block.flat is not None
            wanted = sorted(set(rows) - block.rows)
            try:
                self._reader.decode(row_jobs(block, wanted), self._threads)
            except BaseException:
                if block.users == 0:
                    block.uninstall()
                raise
            block.rows.update(wanted)
            return
        if block.flat is not None:
            self._live.pop(block.flat.untyped_storage().data_ptr(), None)
        flat = self._take_ahead(block)
        if flat is None:
            flat = self._new(block.bytes)
            self._reader.decode(block.jobs(flat), self._threads)
        block.install(flat)
        block.rows = None

    def _join(self, block: _Block) -> None:
        """Order what this thread computes behind the decoding of a block."""

    def _release(self, block: _Block) -> None:
        with self._lock:
            block.users -= 1
            if block.users == 0:
                assert block.flat is not None
                self._live.pop(block.flat.untyped_storage().data_ptr(), None)
                is_part = block.rows is not None
                flat = block.uninstall()
                self._give_back(None if is_part else flat)

    def _look_ahead(self, block: _Block) -> None:
        """Begin to decode the block after this one."""
        after = self._next.get(id(block))
        if after is None or after is block or after.users > 0 or self._ahead is not None:
            return
        if any(isinstance(module, nn.Embedding) for module in after.modules):
            # Decoding some rows of a table on demand is faster than decoding all of it.
            return
        flat = self._new(after.bytes)
        jobs = after.jobs(flat)
        work = self._pool().submit(self._reader.decode, jobs, self._threads)
        self._ahead = (after, flat, work)

    def _pool(self) -> ThreadPoolExecutor:
        # A forked process has no copy of the threads.
        if self._executor is None or self._executor[0] != os.getpid():
            self._executor = (os.getpid(), ThreadPoolExecutor(1, "df11-prefetch"))
            weakref.finalize(self, self._executor[1].shutdown, wait=False)
        return self._executor[1]

    def _take_ahead(self, block: _Block) -> torch.Tensor | None:
        """Take what was decoded ahead, if it is this block."""
        if self._ahead is None:
            return None
        ahead, flat, work = self._ahead
        if self._executor is None or self._executor[0] != os.getpid():
            # The thread that was decoding stayed behind in the process that forked.
            self._ahead = None
            return None
        if ahead is not block:
            if work is None or work.done():
                self._forget_ahead()
            return None
        self._ahead = None
        if work is not None:
            work.result()
        return flat

    def _forget_ahead(self) -> None:
        if self._ahead is not None:
            _, flat, work = self._ahead
            self._ahead = None
            if work is not None:
                work.exception()
            self._give_back(flat)

    def _decode_weight(self, weight: _Weight) -> torch.Tensor:
        flat = torch.empty(weight.bytes, dtype=torch.uint8, device=self._device)
        self._reader.decode(weight.jobs(flat.data_ptr()), self._threads)
        return weight.view(flat, 0)

    def _decode_lasting(self, weight: _Weight) -> torch.Tensor:
        """Decode a weight for a lasting user, and raise at once if it is damaged."""
        return self._decode_weight(weight)

    def _whole(self, weight: _Weight) -> torch.Tensor:
        """Decode a weight for a lasting user: the same tensor while one is kept."""
        with self._lock:
            found = self._decoded.get(id(weight))
            if found is None:
                found = self._decoded[id(weight)] = self._decode_lasting(weight)
            return found

    # The backward pass: weights are not kept for it, but decoded again.

    def _pack(self, tensor: torch.Tensor) -> Any:
        try:
            block = self._live.get(tensor.untyped_storage().data_ptr())
        except (RuntimeError, NotImplementedError):
            return tensor
        if block is None or block.flat is None or block.rows is not None:
            return tensor
        at = tensor.storage_offset() * tensor.element_size()
        for weight, offset in zip(block.weights, block.offsets, strict=True):
            if offset <= at < offset + weight.bytes and tensor.dtype == weight.dtype:
                inside = (at - offset) // tensor.element_size()
                return (weight, tensor.size(), tensor.stride(), inside)
        return tensor

    def _unpack(self, packed: Any) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        weight, size, stride, inside = packed
        return torch.as_strided(self._decode_weight(weight), size, stride, inside)
