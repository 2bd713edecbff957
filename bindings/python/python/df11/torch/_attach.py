"""Gives a module the weights of a checkpoint, so that compressed ones stay compressed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .. import _df11
from .._errors import InvalidInputError, UnsupportedError
from .._files import Path, PatternDict, as_json
from ._attached import Attached
from ._gpu import OnGpu, check_place
from ._machine import open_machine
from ._plan import _Plan


def attach(
    module: nn.Module,
    checkpoint: Path,
    *,
    device: Any = "cpu",
    prefetch: int = 1,
    threads: int = 0,
    pattern_dict: PatternDict | None = None,
    blocks: Sequence[str] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    strict: bool = True,
    linear: str = "decode",
) -> Attached:
    """Give a module the weights of a checkpoint, and keep compressed weights compressed.

    Compressed weights are decoded just before the forward of their block and dropped after it.
    Outputs are those of the original weights, bit for bit. `state_dict` gives the original weights;
    adapters on top can be trained, and gradients flow through; the compressed weights themselves
    cannot be trained. Plain tensors of the checkpoint are copied into the module at once. The
    module may be on the meta device, so that its weights are never in memory.

    Args:
        module: Any module, whose parameters have the names of the checkpoint's tensors.
        checkpoint: A compressed file or directory. On the CPU, its files stay mapped into memory.
        device: Where the module is, unless it is on the meta device: `cpu`, or a card such as
            `cuda:0`, where compressed weights are kept in the card's memory and decoded by it.
            `emulated` is a card that is emulated, for tests, with the module on the CPU.
        prefetch: 1 to decode the next block while one runs, which takes a second buffer; or 0.
        threads: How many decode a block on the CPU; 0 for as many as there are processors.
        pattern_dict: For files of other programs without a configuration: names the tensors.
        blocks: Paths of modules that are blocks, instead of those that are found.
        names: For parameters that the checkpoint stores under other names, or in several tensors
            that follow one another in the parameter: their names there, in order.
        strict: Raise if parameters are in no tensor, or tensors in no parameter.
        linear: On a card: `decode` multiplies decoded weights, as PyTorch does. `fused` multiplies
            the compressed ones where at most 8 vectors come to a linear layer: other bits, since
            its sums are added in another order. `auto` times both at the first use, for each kind
            of block and number of vectors, and takes the faster.

    """
    path = os.fspath(checkpoint)
    machine = None if str(device) == "cpu" else open_machine(device)
    check_prefetch(prefetch)
    if linear not in ("decode", "fused", "auto"):
        raise InvalidInputError(f"linear is 'decode', 'fused' or 'auto', not {linear!r}")
    if machine is None and linear == "fused":
        raise InvalidInputError("linear='fused' is for cards; the CPU decodes first")
    # Of a checkpoint in a store, the stored bytes are fetched once and stay in memory.
    reader = _df11.Reader(path, as_json(pattern_dict), True)
    tensor_device = torch.device("cpu") if machine is None else machine.device
    # To decode the vectors of norms each time would cost a card more than they take; and layers
    # whose blocks have nothing else compressed can multiply compressed weights.
    plan = _Plan(
        module,
        path,
        reader,
        names or {},
        blocks,
        device=tensor_device,
        decodes_vectors=machine is not None,
    )
    plan.check(strict)
    attached: Attached
    if machine is None:
        attached = Attached(module, path, reader, plan.make_blocks(), prefetch, threads)
    else:
        check_place(module, path, machine)
        attached = OnGpu(module, path, reader, plan.make_blocks(), prefetch, machine, linear)
    attached.missing, attached.unexpected = plan.missing, plan.unexpected
    # From here on the module changes; the plan has refused everything that it can refuse.
    plan.load_plain(threads)
    attached._install()
    return attached


def check_device(path: str, device: Any, prefetch: int) -> None:
    """Refuse devices on which a whole library's way of loading does not keep weights compressed."""
    if torch.device(device).type != "cpu":
        problem = f"{path}: weights that stay compressed on {device} are not built yet here;"
        fix = " df11.torch.attach keeps them so on a card; or load them decoded"
        raise UnsupportedError(problem + fix)
    check_prefetch(prefetch)


def check_prefetch(prefetch: int) -> None:
    """Refuse what is neither on nor off."""
    if prefetch not in (0, 1):
        raise InvalidInputError(f"prefetch is 0 or 1 blocks, not {prefetch}")


def attach_loaded(
    module: nn.Module,
    path: str,
    reader: _df11.Reader,
    names: Mapping[str, Sequence[str]],
    prefetch: int,
    threads: int,
) -> Attached:
    """Attach to a module whose other tensors were loaded: only these parameters stay compressed."""
    plan = _Plan(module, path, reader, names, None, only=set(names))
    attached = Attached(module, path, reader, plan.make_blocks(), prefetch, threads)
    attached._install()
    return attached
