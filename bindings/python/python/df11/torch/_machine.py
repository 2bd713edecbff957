"""A card, or an emulated one, with the streams that PyTorch computes on.

The two differ in this file alone. PyTorch has tensors on the card and computes on its streams. Of
an emulated card, tensors are on the CPU, where PyTorch computes at once; what is decoded must
therefore have arrived (`settle`), while a card's streams are only ordered behind one another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from .. import _df11
from .._errors import DeviceError, InvalidInputError


class Machine(Protocol):
    """A device that decodes, and what orders its work."""

    #: Where tensors are.
    device: torch.device
    gpu: _df11.GpuDevice

    def current(self) -> Any:
        """Return the stream that this thread computes on."""

    def side(self) -> Any:
        """Make a stream beside that."""

    def handle(self, stream: Any) -> int:
        """Return the driver's handle of a stream."""

    def keep(self, flat: torch.Tensor, stream: Any) -> None:
        """Keep the memory of a tensor that is dropped until a stream is past what it has now."""

    def settle(self, stream: Any) -> None:
        """Make what a stream was given visible to what PyTorch computes next on it."""

    def seconds(self, work: Callable[[], None]) -> float:
        """Time what work gives to this thread's stream."""

    def is_captured(self) -> bool:
        """Tell whether this thread's stream is captured for a graph."""


class Card:
    """A card."""

    def __init__(self, device: torch.device) -> None:
        # The driver knows best why there is no card, so it is asked before PyTorch.
        index = device.index
        if index is None:
            index = torch.cuda.current_device() if torch.cuda.is_available() else 0
        self.device = torch.device("cuda", index)
        self.gpu = _df11.GpuDevice(f"cuda:{index}")
        if self.gpu.is_emulated:
            problem = f"{self.device}: this process has used an emulated card, which stands for all"
            raise DeviceError(problem + "; use cards in a process of their own")
        if not torch.cuda.is_available():
            problem = f"{self.device} is there, but this PyTorch ({torch.__version__})"
            raise DeviceError(problem + " was built without CUDA; install one with it")

    def current(self) -> Any:
        """Return the stream that this thread computes on."""
        return torch.cuda.current_stream(self.device)

    def side(self) -> Any:
        """Make a stream beside that."""
        return torch.cuda.Stream(self.device)

    def handle(self, stream: Any) -> int:
        """Return the driver's handle of a stream."""
        return int(stream.cuda_stream)

    def keep(self, flat: torch.Tensor, stream: Any) -> None:
        """Tell PyTorch's allocator that a stream uses the memory, too."""
        flat.record_stream(stream)

    def settle(self, stream: Any) -> None:
        """Do nothing: what PyTorch computes on the stream comes after what the stream has."""

    def seconds(self, work: Callable[[], None]) -> float:
        """Time work by the card's clock."""
        stream = self.current()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def is_captured(self) -> bool:
        """Tell whether this thread's stream is captured for a graph."""
        return bool(torch.cuda.is_current_stream_capturing())


class _Stream:
    """A stream of an emulated card, with what PyTorch's have."""

    def __init__(self, gpu: _df11.GpuDevice) -> None:
        self.raw = gpu.stream()
        #: Buffers that its work may still write, by address.
        self.kept: dict[int, torch.Tensor] = {}

    def wait_stream(self, other: _Stream) -> None:
        """Make later work wait for what another stream was given so far."""
        self.raw.wait_stream(other.raw)


class Emulated:
    """An emulated card, for tests."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.gpu = _df11.GpuDevice("emulated")
        self._current = _Stream(self.gpu)

    def current(self) -> Any:
        """Return the stream that stands for the one that PyTorch would compute on."""
        return self._current

    def side(self) -> Any:
        """Make a stream beside that."""
        return _Stream(self.gpu)

    def handle(self, stream: Any) -> int:
        """Return the driver's handle of a stream."""
        return int(stream.raw.handle)

    def keep(self, flat: torch.Tensor, stream: Any) -> None:
        """Keep the tensor until somebody waits for the stream."""
        stream.kept[flat.data_ptr()] = flat

    def settle(self, stream: Any) -> None:
        """Wait, because PyTorch computes at once on the CPU."""
        stream.raw.wait()
        stream.kept.clear()

    def seconds(self, work: Callable[[], None]) -> float:
        """Time work by this machine's clock, which says nothing about a card."""
        began = time.perf_counter()
        work()
        self.settle(self._current)
        return time.perf_counter() - began

    def is_captured(self) -> bool:
        """Tell that it is not."""
        return False


def open_machine(device: Any) -> Machine:
    """Open the device of this name: `cuda`, `cuda:1`, or `emulated`."""
    if not hasattr(_df11, "GpuDevice"):
        raise DeviceError(f"{device}: GPUs decode on Linux alone; use the CPU")
    if device == "emulated":
        return Emulated()
    found = torch.device(device)
    if found.type != "cuda":
        problem = f"weights stay compressed on the CPU and on cards (cuda), not on {found}"
        raise InvalidInputError(problem + "; load them decoded instead")
    return Card(found)
