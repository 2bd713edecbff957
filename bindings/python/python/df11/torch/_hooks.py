"""What hooks of modules need: that compilers leave them alone, and what an input asks for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch

from .._errors import InvalidInputError
from ._plan import _Block

#: The share of a table's rows from which on the whole table is decoded.
_MOST_ROWS = 0.5


def refuse_pickling() -> NoReturn:
    """Say what to do instead."""
    raise InvalidInputError(
        "a module whose weights are compressed cannot be pickled: save its state_dict() instead"
    )


class Uncompiled:
    """A hook, or a forward, that torch.compile leaves alone: it breaks the graph there.

    `torch.compiler.disable` does that too, but takes 160 MB and seconds for whoever never compiles.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.disabled: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return self.function(*args, **named)
        if self.disabled is None:
            self.disabled = torch.compiler.disable(self.function)
        return self.disabled(*args, **named)

    def __reduce_ex__(self, protocol: object) -> Any:
        refuse_pickling()


def chosen_rows(args: tuple[Any, ...], shape: torch.Size) -> list[int] | None:
    """Return the rows of a table that an input selects, if they are few."""
    if not args or not isinstance(args[0], torch.Tensor) or args[0].is_floating_point():
        return None
    rows = args[0].unique().tolist()
    if len(rows) > _MOST_ROWS * shape[0] or any(not 0 <= row < shape[0] for row in rows):
        return None
    return [int(row) for row in rows]


def row_jobs(block: _Block, rows: Iterable[int]) -> list[tuple[str, int, int, tuple[int, int]]]:
    assert block.flat is not None
    weight, base = block.weights[0], block.flat.data_ptr()
    width = math.prod(weight.shape[1:])
    size = width * weight.dtype.itemsize
    name = weight.parts[0].name
    return [(name, width * r, width * (r + 1), (base + size * r, size)) for r in rows]


def is_unshared(flat: torch.Tensor) -> bool:
    """Tell whether only this tensor refers to a buffer."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None:
        return False
    storage = flat.untyped_storage()
    # The tensor, and the object that was just made for its storage.
    return bool(count(storage._cdata) <= 2)
