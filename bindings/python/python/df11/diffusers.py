"""Loading compressed directories with diffusers.

After `import df11.diffusers`, `ModelMixin.from_pretrained` (of a transformer, a VAE, a ControlNet),
and with it whole pipelines, load directories that `df11.compress` wrote. Weights stay compressed in
memory; with `quantization_config=Df11Config(dequantize=True)` they are decoded once, when they are
loaded. Text encoders of pipelines are models of transformers, which this module registers as well.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from diffusers import ModelMixin

from ._errors import UnsupportedError
from .torch import attach, load_model
from .transformers import Df11Config, is_compressed

__all__ = ["Df11Config"]


def _load(cls: Any, path: str, folder: str, kw: dict[str, Any]) -> Any:
    """Make a model of this class, and give it the weights of a compressed folder."""
    config = kw.pop("quantization_config", None) or Df11Config()
    if not isinstance(config, Df11Config):
        raise UnsupportedError(
            f"{folder}: is compressed by df11, and {type(config).__name__} cannot be put on top of"
            " that: df11.decompress it first"
        )
    dtype = kw.pop("torch_dtype", None) or kw.pop("dtype", None) or torch.bfloat16
    arguments = {"subfolder": kw["subfolder"]} if kw.get("subfolder") else {}
    loaded = cls.load_config(path, **arguments)
    loaded.pop("dfloat11_config", None)
    # Buffers that no file holds are computed when a model is made: not on the meta device.
    model = cls.from_config(loaded).to(dtype)
    if config.dequantize:
        load_model(model, folder, threads=config.threads)
    else:
        attach(model, folder, prefetch=config.prefetch, threads=config.threads)
    model.register_to_config(_name_or_path=path)
    return model.eval()


def _patch() -> None:
    original = ModelMixin.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, **kw: Any) -> Any:
        path = pretrained_model_name_or_path
        if path is not None and os.path.isdir(path):
            folder = os.path.join(os.fspath(path), kw.get("subfolder") or "")
            if is_compressed(folder):
                return _load(cls, os.fspath(path), folder, dict(kw))
        return original(cls, path, **kw)

    patched: Any = from_pretrained
    ModelMixin.from_pretrained = classmethod(patched)


_patch()
