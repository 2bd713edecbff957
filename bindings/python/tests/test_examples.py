import importlib
import re
import subprocess
import sys
import types

import pytest
import torch
from conftest import REPOSITORY

EXAMPLES = REPOSITORY / "bindings" / "python" / "examples"


def test_two_processes_have_the_same_weights_after_each_step():
    run = [sys.executable, EXAMPLES / "weight_sync.py", "13"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    steps = re.findall(r"^step +(\d+): (anchor|deltas) +([\d,]+) bytes", done.stdout, re.MULTILINE)
    assert [int(step) for step, _, _ in steps] == list(range(13))
    assert [step for step, kind, _ in steps if kind == "anchor"] == ["0", "10"]
    assert "13 steps: the server had the same bits, and said the same, after each" in done.stdout
    deltas, plain, sparse = re.search(
        r"([\d,]+) bytes as deltas, ([\d,]+) as BF16, ([\d,]+) as 6 bytes a change", done.stdout
    ).groups()
    number = [int(text.replace(",", "")) for text in (deltas, plain, sparse)]
    assert 0 < number[0] < number[2] / 2 < number[1] / 4


@pytest.fixture
def vllm_engine(monkeypatch):
    """The engine, with stand-ins for what it takes from vLLM: the interface, and nothing behind."""
    base, reload = types.ModuleType("base"), types.ModuleType("reload")

    class Engine:
        def __class_getitem__(cls, _):
            return cls

        def __init__(self, config, vllm_config, device, model):
            self.config, self.vllm_config, self.device, self.model = (
                config,
                vllm_config,
                device,
                model,
            )
            self.model_config = vllm_config.model_config

        def update_weights(self, update_info):
            self.receive_weights(self.update_info_cls(**update_info))

    base.WeightTransferEngine = Engine
    base.WeightTransferInitInfo = base.WeightTransferUpdateInfo = type("Info", (), {})
    reload.initialize_layerwise_reload = lambda model: model.told.append("start")
    reload.finalize_layerwise_reload = lambda model, config: model.told.append(config)
    names = {
        "vllm": types.ModuleType("vllm"),
        "vllm.distributed": types.ModuleType("distributed"),
        "vllm.distributed.weight_transfer": types.ModuleType("weight_transfer"),
        "vllm.distributed.weight_transfer.base": base,
        "vllm.model_executor": types.ModuleType("model_executor"),
        "vllm.model_executor.model_loader": types.ModuleType("model_loader"),
        "vllm.model_executor.model_loader.reload": reload,
    }
    for name, module in names.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "vllm_engine", raising=False)
    yield importlib.import_module("vllm_engine")
    sys.modules.pop("vllm_engine", None)


class Model:
    """A model that keeps what is loaded into it."""

    def __init__(self):
        self.told, self.loaded = [], {}

    def load_weights(self, weights):
        for name, weight in weights:
            self.loaded[name] = weight.clone()


def engine_of(module, model):
    config = types.SimpleNamespace(model_config="the model's config")
    engine = module.DeltaEngine(None, config, torch.device("cpu"), model)
    engine.init_transfer_engine(module.InitInfo())
    return engine


def test_an_engine_of_vllm_has_the_same_weights_after_each_step(vllm_engine, tmp_path):
    torch.manual_seed(0)
    trained = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 10))
    trained.to(torch.bfloat16)
    model = Model()
    sender, engine = vllm_engine.Sender(tmp_path, anchor_every=5), engine_of(vllm_engine, model)
    sizes = []
    for _ in range(8):
        with torch.no_grad():
            trained[0].weight[torch.rand(300, 300) < 0.01] *= 1.01
        model.told.clear()
        arguments = {"sender": sender, "client": engine}
        engine.trainer_send_weights(trained.named_parameters(), arguments)
        assert model.told == ["start", "the model's config"]
        for name, weight in trained.named_parameters():
            assert torch.equal(model.loaded[name].view(torch.int16), weight.view(torch.int16))
        sizes.append(max(tmp_path.iterdir()).stat().st_size)
    plain = 2 * sum(weight.numel() for weight in trained.parameters())
    assert all((size < 0.1 * plain) == (step % 5 > 0) for step, size in enumerate(sizes))


def test_an_engine_that_missed_a_step_refuses_the_next_and_goes_on_from_an_anchor(
    vllm_engine, tmp_path
):
    weights = {"w": torch.randn(100, 100).to(torch.bfloat16)}
    sender, model = vllm_engine.Sender(tmp_path, anchor_every=4), Model()
    engine = engine_of(vllm_engine, model)
    updates = []
    for _ in range(5):
        weights["w"].view(torch.int16)[:2] += 1
        updates.append(sender.send(weights.items()))
    engine.update_weights(updates[0])
    before = model.loaded["w"].clone()
    for missed in (updates[2], updates[3]):
        with pytest.raises(ValueError, match="send an anchor"):
            engine.update_weights(missed)
        assert model.told.pop() == "the model's config"
        assert torch.equal(model.loaded["w"], before)
    engine.update_weights(updates[4])
    assert torch.equal(model.loaded["w"].view(torch.int16), weights["w"].view(torch.int16))
