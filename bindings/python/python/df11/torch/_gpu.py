"""Models whose weights stay compressed in a card's memory, and are decoded by the card.

A forward launches kernels and orders streams, and never waits. One buffer holds a block while it
runs; with `prefetch=1`, the next block is decoded on a stream of its own into a second buffer.
A stream that decodes into a buffer comes after all streams that used it, and a stream that uses it
after the one that decoded it. Once there were two passes, buffers are made no more.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .. import _df11
from .._errors import Error, InvalidInputError, UnsupportedError
from .._open import _Tensor
from ._attached import Attached
from ._hooks import Uncompiled, is_unshared
from ._linear import Product, measure, products_of
from ._machine import Machine
from ._plan import _Block, _Weight

#: The alignment of weights in a buffer. PyTorch tells cuBLAS that of each matrix, up to this; and
#: which product cuBLAS takes, so also its bits, may depend on it.
_ALIGNMENT = 256


def check_place(module: nn.Module, path: str, machine: Machine) -> None:
    """Refuse a module with tensors elsewhere."""
    named = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        if tensor.device not in (machine.device, torch.device("meta")):
            problem = f"{path}: tensor {name}: the module has it on {tensor.device}, and weights"
            fix = " move the module there, or make it on the meta device"
            raise InvalidInputError(f"{problem} are to be on {machine.device};{fix}")


class _Stored:
    """What is on the card compressed, each once."""

    def __init__(self, reader: _df11.Reader, gpu: _df11.GpuDevice) -> None:
        #: None when everything is there.
        self.reader: _df11.Reader | None = reader
        self.gpu = gpu
        #: For each tensor in a unit: where it begins in what the unit decodes to.
        self.starts: dict[str, int] = {}
        tensors = {described[0]: _Tensor(described) for described in reader.tensors()}
        for _, names, _, _ in reader.units():
            at = 0
            for name in names:
                self.starts[name] = at
                at += tensors[name].bytes
        self.all: dict[int | str, _df11.GpuStored] = {}

    def unit(self, number: int) -> _df11.GpuStored:
        if number not in self.all:
            assert self.reader is not None
            self.all[number] = self.gpu.upload_unit(self.reader, number)
        return self.all[number]

    def tensor(self, name: str) -> _df11.GpuStored:
        if name not in self.all:
            assert self.reader is not None
            self.all[name] = self.gpu.upload_tensor(self.reader, name)
        return self.all[name]

    @property
    def device_bytes(self) -> int:
        return sum(stored.device_bytes for stored in self.all.values())


class _Layout:
    """Where each weight is in a buffer, and what is decoded to where.

    A unit is decoded whole. A weight is where its unit leaves it; if its parts are elsewhere, or
    not one after the other, they are copied together behind that.
    """

    def __init__(self, weights: list[_Weight], stored: _Stored) -> None:
        self.offsets: list[int] = []
        self.bytes = 0
        self.items: list[tuple[_df11.GpuStored, int]] = []
        self.copies: list[tuple[int, int, int]] = []
        #: For each weight: the unit or frame that has all of it, and where it begins there.
        self.sources: list[tuple[_df11.GpuStored, int] | None] = []
        self._units: dict[int, int] = {}
        for weight in weights:
            self.offsets.append(self._place(weight, stored))

    def _reserve(self, size: int) -> int:
        at = self.bytes
        self.bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return at

    def _in_unit(self, part: _Tensor, stored: _Stored) -> int | None:
        if part.unit is None:
            return None
        if part.unit not in self._units:
            unit = stored.unit(part.unit)
            self._units[part.unit] = self._reserve(unit.bytes)
            self.items.append((unit, self._units[part.unit]))
        return self._units[part.unit] + stored.starts[part.name]

    def _place(self, weight: _Weight, stored: _Stored) -> int:
        places = [self._in_unit(part, stored) for part in weight.parts]
        first = places[0]
        if first is not None and all(
            here is not None and after == here + part.bytes
            for part, (here, after) in zip(weight.parts, pairwise(places), strict=False)
        ):
            part = weight.parts[0]
            assert part.unit is not None
            self.sources.append((stored.unit(part.unit), stored.starts[part.name]))
            return first
        is_frame = len(places) == 1
        name = weight.parts[0].name
        self.sources.append((stored.tensor(name), 0) if is_frame else None)
        start = at = self._reserve(weight.bytes)
        for part, place in zip(weight.parts, places, strict=True):
            if place is None:
                self.items.append((stored.tensor(part.name), at))
            else:
                self.copies.append((place, at, part.bytes))
            at += part.bytes
        return start


class OnGpu(Attached):
    """Keeps a module's weights compressed on a card; `attach` makes it."""

    _decodes_rows = False

    def __init__(
        self,
        module: nn.Module,
        path: str,
        reader: _df11.Reader,
        blocks: list[_Block],
        prefetch: int,
        machine: Machine,
        linear: str = "decode",
    ) -> None:
        super().__init__(module, path, reader, blocks, prefetch, 1)
        self._machine, self._device = machine, machine.device
        self._stored = _Stored(reader, machine.gpu)
        self._batches: dict[int, _df11.GpuBatch] = {}
        #: For each block that may stay compressed in its forward: its layers.
        self._products: dict[int, list[Product]] = {}
        #: For single weights, whose layouts are made when somebody asks for one.
        self._single: dict[int, tuple[_Layout, _df11.GpuBatch]] = {}
        self._side = machine.side() if prefetch else None
        #: For each buffer, by address: the streams that have used it, by handle.
        self._streams: dict[int, dict[int, Any]] = {}
        for block in blocks:
            layout = _Layout(block.weights, self._stored)
            block.offsets, block.bytes = layout.offsets, layout.bytes
            self._batches[id(block)] = machine.gpu.batch(layout.items, layout.copies)
            if linear != "decode":
                found = products_of(block.weights, layout.sources, machine)
                self._products[id(block)] = found
        # The files, or what came of a store, are not needed any more.
        self._stored.reader = None
        del self._reader
        self._linear, self._is_detached = linear, False
        #: What was found to be faster, for blocks of these layers and this many vectors.
        self.choices: dict[tuple[tuple[tuple[int, int, str], ...], int], str] = {}

    @property
    def device_bytes(self) -> int:
        """The bytes of the card's memory that compressed weights take, and stay, beside buffers."""
        with self._lock:
            linear = [made for product in self._all_products() for made in product.made.values()]
            return (
                self._stored.device_bytes
                + sum(batch.device_bytes for batch in self._all_batches())
                + sum(made.device_bytes for made in linear)
            )

    def check(self) -> None:
        """Wait for the card, and raise if something that it decoded was damaged."""
        with self._lock:
            streams = {}
            for users in self._streams.values():
                streams.update(users)
            current = self._machine.current()
            for handle, stream in streams.items():
                if handle != self._machine.handle(current):
                    current.wait_stream(stream)
            for batch in self._all_batches():
                batch.check(self._machine.handle(current))
            for product in self._all_products():
                product.check()

    def detach(self) -> None:
        """Decode all weights into the module, for good; it is then as one never compressed."""
        super().detach()
        with self._lock:
            self._is_detached = True
            for product in self._all_products():
                product.module.__dict__.pop("forward", None)
            self._products.clear()
            self._batches.clear()
            self._single.clear()
            self._stored.all.clear()
            self._streams.clear()

    def _all_batches(self) -> list[_df11.GpuBatch]:
        return [*self._batches.values(), *(batch for _, batch in self._single.values())]

    # Layers that multiply compressed weights.

    def _all_products(self) -> list[Product]:
        return [product for products in self._products.values() for product in products]

    def _install(self) -> None:
        super()._install()
        for block in self._blocks:
            for product in self._products.get(id(block), []):
                self._divert(block, product)

    def _divert(self, block: _Block, product: Product) -> None:
        """Make a layer multiply compressed weights where that is the faster way."""

        def forward(input: torch.Tensor) -> torch.Tensor:
            number = product.vectors(input)
            with self._lock:
                if number and self._chooses_fused(block, number):
                    return product.multiply(input, number)
            self._need(block)
            return nn.functional.linear(input, product.module.weight, product.module.bias)

        product.module.__dict__["forward"] = Uncompiled(forward)

    def _chooses_fused(self, block: _Block, number: int) -> bool:
        if self._linear == "fused":
            return True
        products = self._products[id(block)]
        key = (tuple(product.signature for product in products), number)
        if key not in self.choices:
            if self._machine.is_captured():
                return False
            fused, decoded = measure(self._machine, products, number, lambda: self._views(block))
            self.choices[key] = "fused" if fused < decoded else "decode"
        return self.choices[key] == "fused"

    def _stays_compressed(self, block: _Block) -> bool:
        """Tell whether the layers of a block multiplied compressed weights, as far as is known."""
        products = self._products.get(id(block))
        if not products or self._linear == "fused":
            return bool(products)
        signature = tuple(product.signature for product in products)
        return any(key[0] == signature and way == "fused" for key, way in self.choices.items())

    def _views(self, block: _Block) -> list[torch.Tensor]:
        """Decode a block into a buffer for a while, to time it."""
        flat, stream = self._new(block.bytes), self._machine.current()
        self._enqueue(self._batches[id(block)], flat, stream)
        self._machine.settle(stream)
        self._free.append(flat)
        offsets = dict(zip(map(id, block.weights), block.offsets, strict=True))
        found = [product.weight for product in self._products[id(block)]]
        return [weight.view(flat, offsets[id(weight)]) for weight in found]

    def _pending(self) -> list[tuple[_Block, list[bool]]]:
        """The blocks that this thread is in, and whether each had to be decoded."""
        pending: list[tuple[_Block, list[bool]]] | None
        pending = getattr(self._running, "pending", None)
        if pending is None:
            pending = self._running.pending = []
        return pending

    def _need(self, block: _Block) -> None:
        """Decode the block after all, if this thread is in its forward."""
        for other, decoded in reversed(self._pending()):
            if other is block:
                if not decoded:
                    self._acquire_decoded(block)
                    decoded.append(True)
                return

    def _acquire(self, block: _Block, rows: list[int] | None) -> None:
        if self._products.get(id(block)):
            self._pending().append((block, []))
        else:
            self._acquire_decoded(block)

    def _acquire_decoded(self, block: _Block) -> None:
        # It waits for what other streams did before, which a capture does not allow.
        if self._machine.is_captured():
            problem = f"{self.path}: {block.path or 'the module'}: its weights are decoded for this"
            fix = 'linear="fused" needs no decoding for at most 8 vectors'
            raise UnsupportedError(f"{problem} forward, which cannot be captured in a graph; {fix}")
        super()._acquire(block, None)

    # Decoding.

    def _use(self, flat: torch.Tensor, stream: Any) -> None:
        """Let a stream use a buffer, after all that did."""
        handle = self._machine.handle(stream)
        users = self._streams.setdefault(flat.data_ptr(), {})
        for other, before in users.items():
            if other != handle:
                stream.wait_stream(before)
        users[handle] = stream
        self._machine.keep(flat, stream)

    def _enqueue(self, batch: _df11.GpuBatch, flat: torch.Tensor, stream: Any) -> None:
        self._use(flat, stream)
        batch.decode(flat.data_ptr(), self._machine.handle(stream))

    def _new(self, size: int) -> torch.Tensor:
        """Take the smallest free buffer that is large enough, or make one."""
        enough = [flat for flat in self._free if flat.numel() >= size]
        if not enough:
            flat = torch.empty(size, dtype=torch.uint8, device=self._device)
            # The allocator gives memory that this stream may not be done with yet.
            current = self._machine.current()
            self._streams[flat.data_ptr()] = {self._machine.handle(current): current}
            return flat
        found = min(enough, key=torch.Tensor.numel)
        self._free = [flat for flat in self._free if flat is not found]
        return found

    def _give_back(self, flat: torch.Tensor | None) -> None:
        """Keep a buffer, if nothing else refers to it."""
        if flat is None:
            return
        if is_unshared(flat):
            self._free.append(flat)
        else:
            self._streams.pop(flat.data_ptr(), None)

    def _bring(self, block: _Block, rows: list[int] | None) -> None:
        """Decode a block, even of a table all: the card alone knows which rows are wanted."""
        flat = self._take_ahead(block)
        if flat is None:
            flat = self._new(block.bytes)
            try:
                self._enqueue(self._batches[id(block)], flat, self._machine.current())
            except BaseException:
                self._give_back(flat)
                raise
        block.install(flat)

    def _join(self, block: _Block) -> None:
        """Order the stream of this thread behind the decoding of a block."""
        assert block.flat is not None
        stream = self._machine.current()
        self._use(block.flat, stream)
        self._machine.settle(stream)

    def _release(self, block: _Block) -> None:
        if self._products.get(id(block)):
            _, decoded = self._pending().pop()
            if not decoded:
                return
        with self._lock:
            if block.flat is not None:
                # The module may have changed streams on its way.
                stream = self._machine.current()
                users = self._streams.setdefault(block.flat.data_ptr(), {})
                if self._machine.handle(stream) not in users:
                    users[self._machine.handle(stream)] = stream
                    self._machine.keep(block.flat, stream)
            super()._release(block)

    def _look_ahead(self, block: _Block) -> None:
        """Begin to decode the block after this one."""
        after = self._next.get(id(block))
        if after is None or after is block or after.users > 0 or self._ahead is not None:
            return
        if self._stays_compressed(after):
            return
        try:
            flat = self._new(after.bytes)
        except torch.OutOfMemoryError:
            # This block has its memory; the other one has it when its turn comes.
            return
        try:
            self._enqueue(self._batches[id(after)], flat, self._side)
        except Error:
            # The block itself raises it, when its turn comes.
            self._give_back(flat)
            return
        self._ahead = (after, flat, None)

    def _take_ahead(self, block: _Block) -> torch.Tensor | None:
        """Take what was decoded ahead, if it is this block."""
        if self._ahead is None:
            return None
        ahead, flat, _ = self._ahead
        if ahead is not block:
            self._forget_ahead()
            return None
        self._ahead = None
        return flat

    def _single_of(self, weight: _Weight) -> tuple[_Layout, _df11.GpuBatch]:
        with self._lock:
            if id(weight) not in self._single:
                layout = _Layout([weight], self._stored)
                batch = self._machine.gpu.batch(layout.items, layout.copies)
                self._single[id(weight)] = (layout, batch)
            return self._single[id(weight)]

    def _decode_weight(self, weight: _Weight) -> torch.Tensor:
        if self._is_detached:
            # A backward pass that comes after all; the module has the weight.
            assert weight.parameter is not None
            return weight.parameter.data
        layout, batch = self._single_of(weight)
        flat = torch.empty(layout.bytes, dtype=torch.uint8, device=self._device)
        stream = self._machine.current()
        batch.decode(flat.data_ptr(), self._machine.handle(stream))
        self._machine.settle(stream)
        found = weight.view(flat, layout.offsets[0])
        # Of a unit, the rest would stay with it.
        return found.clone() if flat.numel() >= 2 * weight.bytes else found

    def _decode_lasting(self, weight: _Weight) -> torch.Tensor:
        found = self._decode_weight(weight)
        _, batch = self._single_of(weight)
        batch.check(self._machine.handle(self._machine.current()))
        return found
