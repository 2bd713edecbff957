"""The names of the package `dfloat11`, with the same arguments, on top of this one.

`import df11.dfloat11 as dfloat11` replaces the import. Files are in the layout that its loader
reads. What differs:

* Weights are decoded on the CPU; CUDA is not built into this package yet, and not needed.
* `compress_model` leaves the model as it is, and checks what it wrote on the CPU.
* Codes are canonical, so that files differ in their bytes; no codeword stands for the end.
* Weights that the layout cannot hold (magnitudes from 2^113 on, infinities, NaN) stay plain, with a
  warning, instead of being stored wrong.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from . import _df11
from ._arrays import Torch
from ._errors import Error, InvalidInputError, UnsupportedError
from .torch._attach import attach, check_device

__all__ = [
    "Codec",
    "DFloat11Model",
    "TensorManager",
    "bytes_per_thread",
    "compress_model",
    "encode_weights",
    "get_32bit_codec",
    "get_codec",
    "get_luts",
    "get_no_split_classes",
    "threads_per_block",
    "version",
]

#: The version of the layout.
version = "0.5.0"
#: Bytes of code that one thread of the published kernel decodes.
bytes_per_thread = 8
#: Threads of a thread block of the published kernel.
threads_per_block = (512,)

PatternDict = dict[str, list[str]]

#: Parts of a unit, in the order in which the extension gives them.
_PARTS = (
    "luts",
    "encoded_exponent",
    "sign_mantissa",
    "output_positions",
    "gaps",
    "split_positions",
)


class TensorManager:
    """One BF16 tensor for each device, which grows as it is needed."""

    _tensors: dict[torch.device, torch.Tensor] = {}  # noqa: RUF012

    @staticmethod
    def allocate_bfloat16(device: Any, n_elements: int) -> torch.Tensor:
        """Return a BF16 tensor of this many elements, whose memory is reused."""
        device = torch.device(device)
        held = TensorManager._tensors.get(device)
        if held is None or held.numel() < n_elements:
            TensorManager._tensors.pop(device, None)
            held = torch.empty(n_elements, dtype=torch.bfloat16, device=device)
            TensorManager._tensors[device] = held
        return held[:n_elements]


class Codec:
    """A canonical code for exponents."""

    def __init__(self, counter: Mapping[int, int]) -> None:
        frequencies = [0] * 256
        for exponent, frequency in counter.items():
            frequencies[exponent] = frequency
        self._table = {
            exponent: (length, bits)
            for exponent, (length, bits) in enumerate(_df11.code_of(frequencies))
            if length
        }

    def get_code_table(self) -> dict[int, tuple[int, int]]:
        """Return the length and the bits of each exponent's codeword."""
        return dict(self._table)

    def print_code_table(self, out: Any = None) -> None:
        """Print the codewords, the shortest first."""
        for exponent, (length, bits) in sorted(self._table.items(), key=lambda item: item[1]):
            print(f"{length:4d} {bits:0{length}b} {exponent}", file=out or sys.stdout)


def get_codec(weight: torch.Tensor) -> tuple[Codec, dict[int, int]]:
    """Make the code for the exponents of a BF16 tensor; also return how often each occurs."""
    exponents = (weight.detach().cpu().contiguous().view(torch.int16).flatten() >> 7) & 0xFF
    counts = torch.bincount(exponents.to(torch.int64), minlength=256).tolist()
    counter = {exponent: count for exponent, count in enumerate(counts) if count}
    return Codec(counter), counter


def get_32bit_codec(
    counter: Mapping[int, int],
) -> tuple[Codec, dict[int, int], dict[int, tuple[int, int]]]:
    """Make the code whose codewords have at most 32 bits, as all codes here do."""
    codec = Codec(counter)
    return codec, dict(counter), codec.get_code_table()


def get_luts(table: Mapping[Any, tuple[int, int]]) -> torch.Tensor:
    """Make the prefix tables of a canonical code, and a last row of lengths."""
    lengths, expected = [0] * 256, {}
    for exponent, (length, bits) in table.items():
        # Other coders have a symbol for the end, which is not a number.
        if isinstance(exponent, int):
            lengths[exponent], expected[exponent] = length, bits
    tables = torch.frombuffer(bytearray(_df11.tables_of(lengths)), dtype=torch.uint8)
    # Codewords in order of their length, then of their symbol, count upwards.
    code, before = 0, 0
    for exponent in sorted(expected, key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[exponent] - before
        before = lengths[exponent]
        if expected[exponent] != code:
            raise InvalidInputError("this code is not canonical; make it with get_codec")
        code += 1
    return tables.view(-1, 256)


def encode_weights(
    weights: Sequence[torch.Tensor],
    codec: Codec,
    bytes_per_thread: int,
    threads_per_block: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode tensors as one unit.

    Gives code, signs and mantissas, output positions (as 32-bit numbers), gaps, split positions.
    """
    if (bytes_per_thread, threads_per_block) != (8, 512):
        raise UnsupportedError("published files have 8 bytes for each thread, and 512 threads")
    parts = _encode(weights)
    own = get_luts(codec.get_code_table())
    if not torch.equal(own, parts["luts"]):
        raise InvalidInputError("the code was not made for these weights")
    positions = parts["output_positions"].view(torch.uint32)
    return (
        parts["encoded_exponent"],
        parts["sign_mantissa"],
        positions,
        parts["gaps"],
        parts["split_positions"],
    )


def _encode(weights: Iterable[torch.Tensor], threads: int = 0) -> dict[str, torch.Tensor]:
    """Encode tensors as one unit: its six parts as they are stored."""
    held = [weight.detach().cpu().contiguous() for weight in weights]
    for weight in held:
        if weight.dtype != torch.bfloat16:
            raise InvalidInputError(f"weights are {weight.dtype}, but must be torch.bfloat16")
    found = _df11.encode_unit([Torch().address(weight) for weight in held], threads)
    parts = {}
    for name, data in zip(_PARTS, found, strict=True):
        part = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0)
        if name == "split_positions":
            part = part.view(torch.int64) if data else torch.empty(0, dtype=torch.int64)
        parts[name] = part.view(-1, 256) if name == "luts" else part
    return parts


def _is_sound(parts: Mapping[str, torch.Tensor], weights: Sequence[torch.Tensor]) -> bool:
    """Decode a unit, and compare it with what it was made from, as bits."""
    out = TensorManager.allocate_bfloat16("cpu", sum(weight.numel() for weight in weights))
    maker = Torch()
    _df11.decode_unit([maker.address(parts[name]) for name in _PARTS], maker.address(out))
    pieces = torch.split(out.view(torch.int16), [weight.numel() for weight in weights])
    originals = (weight.detach().cpu().flatten().view(torch.int16) for weight in weights)
    return all(map(torch.equal, pieces, originals))


def get_no_split_classes(model: nn.Module, pattern_dict: PatternDict) -> list[str]:
    """List the classes of the modules that make units."""
    matching = [
        type(module).__name__
        for pattern in pattern_dict
        for name, module in model.named_modules()
        if re.fullmatch(pattern, name)
    ]
    return list(dict.fromkeys(matching))


def _unit_weights(module: nn.Module, path: str, attr_names: Sequence[str]) -> dict[str, Any]:
    """Find the weights of a unit, by their names below the module."""
    if isinstance(module, nn.Embedding | nn.Linear):
        return {"weight": module.weight}
    if not attr_names:
        raise InvalidInputError(f"the pattern of {path} lists no sub-modules")
    return {f"{name}.weight": module.get_parameter(f"{name}.weight") for name in attr_names}


def compress_model(
    model: nn.Module,
    pattern_dict: PatternDict,
    save_path: str,
    block_range: Sequence[int] = (0, 10000),
    save_single_file: bool = True,
    check_correctness: bool = True,
) -> None:
    """Write a BF16 model in the published layout, with its configuration, into a directory.

    Args:
        model: The model; it is left as it is.
        pattern_dict: Regular expressions for module paths, and the sub-modules that make a unit.
        save_path: The directory.
        block_range: The units that are written are those after the first number, up to the second.
        save_single_file: Write one file; otherwise one for each unit, and one for what is left.
        check_correctness: Decode each unit, and compare.

    """
    os.makedirs(save_path, exist_ok=True)
    state = dict(model.state_dict())
    index, is_all = 0, True
    for pattern, attr_names in pattern_dict.items():
        for path, module in model.named_modules():
            if not re.fullmatch(pattern, path):
                continue
            prefix = path + "." if path else ""
            index += 1
            is_wanted = block_range[0] < index <= block_range[1]
            is_all = is_all and index <= block_range[1]
            if is_wanted:
                _compress_unit(state, prefix, module, path, attr_names, check_correctness)
            if save_single_file:
                continue
            own = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
            if is_wanted:
                _save(own, os.path.join(save_path, path.replace(".", "_") + ".safetensors"))
    if is_all:
        _save(state, os.path.join(save_path, "model.safetensors"))
        _save_config(model, pattern_dict, save_path)


def _compress_unit(
    state: dict[str, Any],
    prefix: str,
    module: nn.Module,
    path: str,
    attr_names: Sequence[str],
    check_correctness: bool,
) -> None:
    weights = _unit_weights(module, path, attr_names)
    try:
        parts = _encode(weights.values())
    except UnsupportedError as error:
        warnings.warn(f"{path} stays plain: {error}", stacklevel=3)
        return
    except Error as error:
        raise InvalidInputError(f"{path}: {error}") from None
    if check_correctness and not _is_sound(parts, list(weights.values())):
        raise RuntimeError(f"{path} does not decode to the original weights; please report this")
    for name in weights:
        state.pop(prefix + name, None)
    for name, part in parts.items():
        state[prefix + name] = part


def _save(state: dict[str, Any], path: str) -> None:
    from safetensors.torch import save_file

    # Tied weights are one tensor under two names, which files do not have.
    held: dict[int, str] = {}
    for key, value in list(state.items()):
        first = held.setdefault(value.data_ptr(), key) if value.numel() else key
        if first != key and state[first].shape == value.shape:
            state[key] = value.clone()
    save_file({key: value.contiguous() for key, value in state.items()}, path, {"format": "pt"})


def _save_config(model: nn.Module, pattern_dict: PatternDict, save_path: str) -> None:
    path = os.path.join(save_path, "config.json")
    config: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    elif hasattr(model, "config"):
        given: Any = model.config
        if hasattr(given, "to_json_string"):
            config = json.loads(given.to_json_string(use_diff=False))
            config["architectures"] = [type(model).__name__]
        elif isinstance(given, Mapping):
            config = json.loads(json.dumps(dict(given), default=str))
    config["dfloat11_config"] = {
        "version": version,
        "threads_per_block": list(threads_per_block),
        "bytes_per_thread": bytes_per_thread,
        "pattern_dict": pattern_dict,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)


class DFloat11Model:
    """Loads models whose weights stay compressed in memory."""

    @classmethod
    def from_pretrained(
        cls,
        dfloat11_model_name_or_path: str,
        device: str | None = None,
        device_map: str = "auto",
        max_memory: dict[int | str, int | str] | None = None,
        bfloat16_model: Any = None,
        cpu_offload: bool = False,
        cpu_offload_blocks: int | None = None,
        pin_memory: bool = True,
        from_single_file: bool = False,
        pattern_dict: PatternDict | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a compressed model from a directory, from the Hub, or from one file.

        Args:
            dfloat11_model_name_or_path: The directory, the name, or the file.
            device: The CPU; this version does not decode elsewhere.
            device_map: `auto`: the CPU.
            max_memory: Of no use on the CPU; nor are `cpu_offload`, `cpu_offload_blocks` and
                `pin_memory`.
            bfloat16_model: A model to load the weights into, which may be on the meta device.
            cpu_offload: See `max_memory`.
            cpu_offload_blocks: See `max_memory`.
            pin_memory: See `max_memory`.
            from_single_file: Whether the path is one safetensors file.
            pattern_dict: For a single file: which tensors make which units.
            **kwargs: For `AutoModelForCausalLM.from_pretrained`.

        """
        path = _resolve(dfloat11_model_name_or_path, from_single_file)
        check_device(path, device or "cpu", 0)
        if device is None and device_map != "auto":
            raise InvalidInputError("device_map is 'auto' where no device is given")
        if bfloat16_model is None:
            from transformers import AutoModelForCausalLM

            from . import transformers as _registered  # noqa: F401

            return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, **kwargs)
        attached = attach(bfloat16_model, path, pattern_dict=pattern_dict, strict=False)
        if attached.unexpected:
            names = ", ".join(attached.unexpected[:5])
            warnings.warn(f"{path}: not in the model: {names}", stacklevel=2)
        return bfloat16_model

    @classmethod
    def from_single_file(
        cls,
        dfloat11_model_path: str,
        pattern_dict: PatternDict,
        bfloat16_model: Any,
        device: str | None = None,
        device_map: str = "auto",
        max_memory: dict[int | str, int | str] | None = None,
        cpu_offload: bool = False,
        cpu_offload_blocks: int | None = None,
        pin_memory: bool = True,
    ) -> Any:
        """Load one compressed file into a model. The arguments are those of `from_pretrained`."""
        return cls.from_pretrained(
            dfloat11_model_path,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            bfloat16_model=bfloat16_model,
            cpu_offload=cpu_offload,
            cpu_offload_blocks=cpu_offload_blocks,
            pin_memory=pin_memory,
            from_single_file=True,
            pattern_dict=pattern_dict,
        )


def _resolve(path: str, from_single_file: bool) -> str:
    """Find a model on the disk, or download it."""
    if from_single_file:
        if os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a directory; name a safetensors file")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}")
        return path
    if os.path.exists(path):
        return path
    local = path.replace("/", "__")
    if not os.path.exists(local):
        from huggingface_hub import snapshot_download

        snapshot_download(path, local_dir=local)
    return local
