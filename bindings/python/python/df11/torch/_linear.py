"""Linear layers with few vectors, whose weights are multiplied without being decoded."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .. import _df11
from .._errors import UnsupportedError
from ._machine import Machine
from ._plan import _Weight

#: The most vectors that the kernels multiply at a time.
_MOST_VECTORS = 8

#: How often each way is timed.
_ROUNDS = 5


class Product:
    """A linear layer of a block, ready to multiply compressed weights."""

    def __init__(
        self,
        module: nn.Linear,
        weight: _Weight,
        stored: tuple[_df11.GpuStored, int],
        machine: Machine,
    ) -> None:
        self.module, self.weight, self.machine = module, weight, machine
        self.stored, start = stored
        self.first = start // weight.dtype.itemsize
        self.rows, self.columns = weight.shape
        #: What is prepared, by the number of vectors and the bias's address.
        self.made: dict[tuple[int, int], _df11.GpuLinear] = {}
        #: The stream that has used each.
        self.streams: dict[int, Any] = {}

    @property
    def signature(self) -> tuple[int, int, str]:
        """What decides how long it takes."""
        return self.rows, self.columns, self.stored.codec

    def vectors(self, x: torch.Tensor) -> int:
        """Count the vectors of an input that it can multiply; 0 for any other input."""
        bias = self.module.bias
        is_trained = torch.is_grad_enabled() and (
            x.requires_grad or (bias is not None and bias.requires_grad)
        )
        device = self.machine.device
        if is_trained or torch.is_autocast_enabled(device.type) or type(x) is not torch.Tensor:
            return 0
        if x.dtype != torch.bfloat16 or x.device != device or x.shape[-1:] != (self.columns,):
            return 0
        if bias is not None and (bias.dtype != torch.bfloat16 or not bias.is_contiguous()):
            return 0
        number = x.numel() // self.columns
        return number if number <= _MOST_VECTORS else 0

    def multiply(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Compute the layer's result."""
        bias = self.module.bias
        memory = None if bias is None else (bias.data_ptr(), bias.nbytes)
        key = (number, 0 if memory is None else memory[0])
        if key not in self.made:
            if self.machine.is_captured():
                problem = f"{self.weight.name}: {number} vectors have not come to this layer yet"
                fix = "run the forward once before it is captured in a graph"
                raise UnsupportedError(f"{problem}, and preparing for them waits; {fix}")
            shape = (self.first, self.rows, self.columns, number)
            self.made[key] = self.machine.gpu.linear(self.stored, shape, memory)
        stream = self.machine.current()
        before = self.streams.get(number)
        if before is not None and self.machine.handle(before) != self.machine.handle(stream):
            stream.wait_stream(before)
        self.streams[number] = stream
        x = x.contiguous()
        y = torch.empty((*x.shape[:-1], self.rows), dtype=x.dtype, device=x.device)
        self.made[key].forward(x.data_ptr(), y.data_ptr(), self.machine.handle(stream))
        self.machine.settle(stream)
        return y

    def check(self) -> None:
        """Wait, and raise if a kernel has found the weights damaged."""
        for (number, _), made in self.made.items():
            made.check(self.machine.handle(self.streams[number]))


def products_of(
    weights: list[_Weight],
    sources: list[tuple[_df11.GpuStored, int] | None],
    machine: Machine,
) -> list[Product]:
    """Find the layers of a block; none if it has other compressed weights."""
    found = []
    for weight, stored in zip(weights, sources, strict=True):
        if stored is None or not stored[0].multiplies or weight.dtype != torch.bfloat16:
            return []
        for owner, key in weight.places:
            # Other classes, even those made of this one, may compute something else.
            if type(owner) is not nn.Linear or key != "weight":
                return []
            found.append(Product(owner, weight, stored, machine))
    return found


def measure(
    machine: Machine, products: list[Product], number: int, decode: Callable[[], list[torch.Tensor]]
) -> tuple[float, float]:
    """Time a block's layers with this many vectors, in seconds: compressed, and decoded first."""
    inputs = [
        torch.zeros(number, product.columns, dtype=torch.bfloat16, device=machine.device)
        for product in products
    ]

    def compressed() -> None:
        for product, x in zip(products, inputs, strict=True):
            product.multiply(x, number)

    def decoded() -> None:
        for product, x, weight in zip(products, inputs, decode(), strict=True):
            nn.functional.linear(x, weight, product.module.bias)

    with torch.no_grad():
        compressed()
        decoded()
        times = [(machine.seconds(compressed), machine.seconds(decoded)) for _ in range(_ROUNDS)]
    fused, plain = zip(*times, strict=True)
    return statistics.median(fused), statistics.median(plain)
