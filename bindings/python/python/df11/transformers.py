"""Loading compressed directories with transformers.

After `import df11.transformers`, `AutoModel.from_pretrained(directory)` and its kind load
directories that `df11.compress` wrote, and those in the published DF11 layout. Weights stay
compressed in memory, and are decoded block by block; with
`quantization_config=Df11Config(dequantize=True)` they are decoded once, when they are loaded.
`save_pretrained` writes a compressed directory again.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from contextvars import ContextVar
from typing import Any

import torch
import transformers
from transformers import modeling_utils
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from . import _df11
from ._arrays import TYPES
from ._errors import InvalidInputError, UnsupportedError
from ._files import Codec, compress
from ._open import safe_open
from .torch._attach import attach_loaded, check_device
from .torch._attached import Attached

__all__ = ["Df11Config", "Df11Quantizer"]

METHOD = "df11"


@register_quantization_config(METHOD)  # type: ignore[untyped-decorator]
class Df11Config(QuantizationConfigMixin):  # type: ignore[misc]
    """How a compressed directory is loaded.

    Args:
        dequantize: Decode all weights when they are loaded; the model is then a plain one.
        codec: What `save_pretrained` writes; by default units where the model came in units, and
            frames where it came in frames.
        prefetch: As for `df11.torch.attach`.
        threads: How many decode; 0 for as many as there are processors.

    """

    def __init__(
        self,
        dequantize: bool = False,
        codec: Codec | None = None,
        prefetch: int = 1,
        threads: int = 0,
        **kwargs: Any,
    ) -> None:
        self.quant_method = METHOD
        self.dequantize, self.codec = dequantize, codec
        self.prefetch, self.threads = prefetch, threads


@register_quantizer(METHOD)  # type: ignore[untyped-decorator]
class Df11Quantizer(HfQuantizer):  # type: ignore[misc]
    """Loads the weights of a compressed directory into a model, without loss."""

    #: The directory, and the weights that stay compressed; set when a model is loaded.
    path: str | None = None
    names: dict[str, list[str]]
    reader: _df11.Reader
    attached: Attached | None = None

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuse devices that weights cannot stay compressed on."""
        if self.quantization_config.dequantize or device_map is None:
            return
        devices = device_map.values() if isinstance(device_map, dict) else [device_map]
        for device in devices:
            # Names such as `auto` choose the CPU where there is no other device.
            if isinstance(device, str) and device in ("auto", "balanced", "sequential"):
                device = "cuda" if torch.cuda.is_available() else "cpu"
            check_device(_directory() or "", device, 0)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        config = self.quantization_config
        if config.dequantize or self.path is None:
            return model
        self.attached = attach_loaded(
            model, self.path, self.reader, self.names, config.prefetch, config.threads
        )
        return model

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        if self.attached is not None:
            self.attached.detach()
            self.attached = None
        return model if dtype in (None, model.dtype) else model.to(dtype)

    def is_serializable(self) -> bool:
        """Tell that `save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Tell that adapters on top can be trained."""
        return True


# What transformers does for each load is found here by its parts.
_loading: ContextVar[str | None] = ContextVar("df11_loading", default=None)


def _directory() -> str | None:
    return _loading.get()


def is_compressed(path: str) -> bool:
    """Tell whether a directory holds a compressed checkpoint, of df11 or a published one."""
    if os.path.isfile(os.path.join(path, "df11.json")):
        return True
    try:
        with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return False
    if isinstance(config, dict) and _says_so(config):
        return True
    # A component of a pipeline: the record is in the folder of the pipeline.
    above = os.path.join(os.path.dirname(os.path.abspath(path)), "df11.json")
    if not os.path.isfile(above):
        return False
    with safe_open(path) as opened:
        return any(not tensor.is_plain for tensor in opened._tensors.values())


def _says_so(config: dict[str, Any]) -> bool:
    method = (config.get("quantization_config") or {}).get("quant_method")
    return "dfloat11_config" in config or method == METHOD


def _patch_from_pretrained() -> None:
    original = modeling_utils.PreTrainedModel.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kw: Any) -> Any:
        path = pretrained_model_name_or_path
        found = None
        if path is not None and os.path.isdir(path):
            folder = os.path.join(os.fspath(path), kw.get("subfolder") or "")
            found = folder if is_compressed(folder) else None
        token = _loading.set(found)
        try:
            return original(cls, path, *args, **kw)
        finally:
            _loading.reset(token)

    modeling_utils.PreTrainedModel.from_pretrained = classmethod(from_pretrained)


def _patch_quantizer() -> None:
    original = modeling_utils.get_hf_quantizer

    @functools.wraps(original)
    def get_hf_quantizer(config: Any, quantization_config: Any, *args: Any, **kw: Any) -> Any:
        path = _directory()
        if path is None:
            if _says_so(config.to_dict()):
                raise UnsupportedError(
                    "this model is compressed, and not in a local directory: download all of it"
                    " (huggingface_hub.snapshot_download), and load that directory"
                )
            return original(config, quantization_config, *args, **kw)
        if quantization_config is None:
            quantization_config = Df11Config()
        if not isinstance(quantization_config, Df11Config):
            kind = type(quantization_config).__name__
            raise UnsupportedError(
                f"{path}: is compressed by df11, and {kind} cannot be put on top of that:"
                " df11.decompress it first"
            )
        # As if the directory said so itself: other readers of it need not know.
        config.quantization_config = quantization_config.to_dict()
        return original(config, None, *args, **kw)

    modeling_utils.get_hf_quantizer = get_hf_quantizer


def _patch_files() -> None:
    original = modeling_utils._get_resolved_checkpoint_files

    @functools.wraps(original)
    def resolved(*args: Any, **kw: Any) -> Any:
        path = _directory()
        if path is None:
            return original(*args, **kw)
        # Published checkpoints need not have a file of the name that is looked for.
        names = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
        return [os.path.join(path, name) for name in names], None

    modeling_utils._get_resolved_checkpoint_files = resolved


def _patch_load() -> None:
    original = modeling_utils.PreTrainedModel._load_pretrained_model

    @functools.wraps(original)
    def load(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *args: Any, **kw: Any
    ) -> Any:
        quantizer, path = load_config.hf_quantizer, _directory()
        if not isinstance(quantizer, Df11Quantizer) or path is None or state_dict is not None:
            return original(model, state_dict, checkpoint_files, load_config, *args, **kw)
        # transformers has threads of its own, one for each of some tensors.
        with safe_open(path, "pt", threads=1) as opened:
            state, used = _state(model, opened, load_config, quantizer)
            quantizer.path, quantizer.reader = path, opened._open()
            done = original(model, state, None, load_config, *args, **kw)
        # What was merged without being loaded is taken apart again when it is saved.
        mapping = load_config.weight_mapping or []
        model._weight_conversions = [
            entry for entry in mapping if entry.was_used() or any(entry is other for other in used)
        ]
        return done

    modeling_utils.PreTrainedModel._load_pretrained_model = staticmethod(load)


def _state(
    model: Any, opened: safe_open, load_config: Any, quantizer: Df11Quantizer
) -> tuple[dict[str, Any], list[Any]]:
    """Make what the model is loaded from: placeholders for what stays compressed, and slices."""
    state: dict[str, Any] = {name: opened.get_slice(name) for name in opened.keys()}
    used: list[Any] = []
    quantizer.names = {}
    if quantizer.quantization_config.dequantize:
        return state, used
    own = model.state_dict()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for target, sources, converter in _targets(model, opened, load_config, own):
        tensors = [opened._tensors[source] for source in sources]
        if target not in parameters or any(tensor.is_plain for tensor in tensors):
            continue
        dtype = getattr(torch, TYPES[tensors[0].dtype][2])
        if own[target].dtype != dtype:
            if load_config.dtype != dtype:
                raise UnsupportedError(
                    f"{opened._path}: tensor {target}: stays compressed as {dtype}, but the model"
                    f" is loaded as {load_config.dtype}: pass dtype={dtype}, or"
                    " quantization_config=Df11Config(dequantize=True)"
                )
            continue
        if sum(tensor.elements for tensor in tensors) != own[target].numel():
            continue
        for source in sources:
            del state[source]
        shape = own[target].shape
        nan = torch.full((1,) * len(shape), float("nan")).to(dtype)
        state[target] = nan.expand(shape)
        quantizer.names[target] = sources
        if converter is not None and not any(converter is other for other in used):
            used.append(converter)
    if not quantizer.names:
        raise InvalidInputError(
            f"{opened._path}: no tensor of this model can stay compressed; load it with"
            " quantization_config=Df11Config(dequantize=True)"
        )
    return state, used


def _targets(
    model: Any, opened: safe_open, load_config: Any, own: dict[str, Any]
) -> list[tuple[str, list[str], Any]]:
    """Find the parameters of a model, and the tensors that follow one another in each."""
    mapping = load_config.weight_mapping or []
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {key: one for one in converters for key in one.source_patterns}
    prefix = model.base_model_prefix
    merged: dict[str, dict[str, list[str]]] = {}
    found: list[tuple[str, list[str], Any]] = []
    for name in sorted(opened.keys(), key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, prefix, own)
        if target not in own and name in own:
            target, pattern = rename_source_key(
                name, [], [], base_model_prefix=prefix, meta_state_dict=own
            )
        if target not in own:
            continue
        if pattern is None:
            found.append((target, [name], None))
        else:
            merged.setdefault(target, {}).setdefault(pattern, []).append(name)
    for target, lists in merged.items():
        converter = by_pattern[next(iter(lists))]
        parts = [lists.get(pattern, []) for pattern in converter.source_patterns]
        order = _order(converter, parts)
        if order is not None:
            found.append((target, order, converter))
    return found


def _order(converter: Any, lists: list[list[str]]) -> list[str] | None:
    """Order tensors as they follow one another in what they are merged into.

    Knows stacks of experts, and of several matrices for each; what else is merged is decoded.
    """
    operations = [(type(one), getattr(one, "dim", None)) for one in converter.operations]
    if len({len(names) for names in lists}) != 1:
        return None
    if operations == [(MergeModulelist, 0)] and len(lists) == 1:
        return lists[0]
    if operations == [(MergeModulelist, 0), (Concatenate, 1)]:
        return [name for group in zip(*lists, strict=True) for name in group]
    return None


def _patch_save() -> None:
    original = modeling_utils.PreTrainedModel.save_pretrained

    @functools.wraps(original)
    def save_pretrained(self: Any, save_directory: Any, *args: Any, **kw: Any) -> Any:
        quantizer = getattr(self, "hf_quantizer", None)
        has_adapter = getattr(self, "_hf_peft_config_loaded", False)
        if not isinstance(quantizer, Df11Quantizer) or has_adapter:
            return original(self, save_directory, *args, **kw)
        if kw.get("push_to_hub"):
            raise UnsupportedError("save the compressed directory first, and push that as it is")
        target = os.path.abspath(os.fspath(save_directory))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".df11-", dir=os.path.dirname(target)) as plain:
            with _plain(self):
                original(self, plain, *args, **kw)
            codec = quantizer.quantization_config.codec
            if codec is None and quantizer.path is not None:
                codec = "df11" if quantizer.reader.units() else "rans"
            report = compress(plain, target, codec=codec, force=True)
            if report.nothing_to_gain:
                problem = f"{target}: nothing would be gained by compression"
                raise InvalidInputError(f"{problem}; dequantize() the model, and save it plain")
        return None

    modeling_utils.PreTrainedModel.save_pretrained = save_pretrained


class _plain:
    """Lets a model pass for one that was never compressed, as it is saved."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.quantizer = self.model.hf_quantizer
        del self.model.hf_quantizer
        self.configs = []
        for module in self.model.modules():
            config = getattr(module, "config", None)
            held = getattr(config, "__dict__", {})
            for key in ("quantization_config", "dfloat11_config"):
                if key in held:
                    self.configs.append((held, key, held.pop(key)))

    def __exit__(self, *exc: object) -> None:
        for held, key, value in self.configs:
            held[key] = value
        self.model.hf_quantizer = self.quantizer


_patch_from_pretrained()
_patch_quantizer()
_patch_files()
_patch_load()
_patch_save()

if int(transformers.__version__.partition(".")[0]) < 5:
    raise ImportError(f"df11 needs transformers 5, not {transformers.__version__}")
