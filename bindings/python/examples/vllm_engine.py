"""Weight transfer by deltas, as an engine of vLLM: a file for each step in a folder that all reach.

Written against the interface that vLLM 0.29 documents (`vllm.distributed.weight_transfer.base`,
and layer by layer reloading as its own engines use it), and tested with stand-ins of that
interface. **It has not run inside vLLM**, nor with TRL, whose trainers drive such engines.

Trainer:    sender = Sender("/shared/steps")
            update = sender.send(model.named_parameters())          # after each step
            client.start_weight_update(); client.update_weights(update); ...
Inference:  WeightTransferEngineFactory.register_engine("df11", "vllm_engine", "DeltaEngine")

Each worker keeps the weights once more in memory of the host, as the checkpoint has them: vLLM
fuses, cuts and converts them, so that its own are no base for deltas. Each update goes on from
there to the device whole. What is saved is what travels between machines.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

import df11
import df11.delta

#: The key of a file's metadata that names the state it goes on from: the SHA-256 of the file that
#: made that state; empty for an anchor. So a file vouches for all that came before.
BASE = "df11_base"


class Sender:
    """The trainer's side: writes a file for each step, and every some steps an anchor."""

    def __init__(self, folder: str | os.PathLike[str], anchor_every: int = 10) -> None:
        self.folder, self.anchor_every = Path(folder).absolute(), anchor_every
        self.step, self.state = 0, ""
        self.sent: dict[str, torch.Tensor] = {}

    def send(self, weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, Any]:
        """Write a step. Returns the update that `update_weights` of the engine takes."""
        new = {name: weight.detach().to("cpu", copy=True) for name, weight in weights}
        is_anchor = self.step % self.anchor_every == 0 or new.keys() != self.sent.keys()
        if is_anchor:
            parts = {name: df11.encode(weight) for name, weight in new.items()}
        else:
            parts = df11.delta.encode_all(new, self.sent)
        tensors = {
            n: torch.frombuffer(bytearray(part), dtype=torch.uint8) for n, part in parts.items()
        }
        data = safetensors.torch.save(tensors, {BASE: "" if is_anchor else self.state})
        path = self.folder / f"step-{self.step:08}.safetensors"
        path.with_suffix(".partial").write_bytes(data)
        os.replace(path.with_suffix(".partial"), path)
        self.step, self.state, self.sent = self.step + 1, hashlib.sha256(data).hexdigest(), new
        return {"path": str(path)}


@dataclass
class InitInfo(WeightTransferInitInfo):
    """Nothing: the first update is an anchor."""


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """The file of a step."""

    path: str


class DeltaEngine(WeightTransferEngine[InitInfo, UpdateInfo]):
    """The side of a worker: keeps the weights of the checkpoint, and loads them into the model."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Begin without weights."""
        self.state, self.weights = "", dict[str, torch.Tensor]()

    def start_weight_update(self) -> None:
        """Make the model take weights as a checkpoint has them."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Apply a step, and load the weights. A step that does not follow changes nothing."""
        try:
            self._receive(update_info)
        except Exception:
            # No one finishes an update that failed.
            self.finish_weight_update()
            raise

    def _receive(self, update_info: UpdateInfo) -> None:
        data = Path(update_info.path).read_bytes()
        with safetensors.safe_open(update_info.path, "np") as file:
            base = (file.metadata() or {}).get(BASE)
        parts = safetensors.torch.load(data)
        if base is None or base not in ("", self.state):
            raise ValueError(
                f"{update_info.path}: goes on from the step whose file has SHA-256 {base}, but "
                f"this worker is at {self.state or 'none'}; send an anchor"
            )
        if base:
            df11.delta.apply_all(self.weights, _memory(parts), out=self.weights)
        else:
            self.weights = {
                name: df11.decode(part, framework="pt") for name, part in _memory(parts).items()
            }
        self.state = hashlib.sha256(data).hexdigest()
        self.model.load_weights(self.weights.items())

    def finish_weight_update(self) -> None:
        """Let the model make of its weights what it computes with."""
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Let the weights go."""
        self.weights = {}

    @staticmethod
    def trainer_send_weights(iterator: Iterator[Any], trainer_args: dict[str, Any]) -> None:
        """Send a step: `sender` writes it, and `client` tells the workers."""
        update = trainer_args["sender"].send(iterator)
        client = trainer_args["client"]
        client.start_weight_update()
        client.update_weights(update)
        client.finish_weight_update()


def _memory(parts: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: part.numpy() for name, part in parts.items()}
