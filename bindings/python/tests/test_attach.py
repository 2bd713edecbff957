import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from conftest import make_model
from torch import nn

import df11
import df11.torch


class Net(nn.Module):
    """A module with most of what modules may have."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(500, 128)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(128, 4, 256, 0.0) for _ in range(3))
        self.attention = nn.MultiheadAttention(128, 4)
        self.free = nn.Parameter(torch.randn(128, 128))
        self.head = nn.Linear(128, 500, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("shift", torch.randn(128))
        self.to(torch.bfloat16)

    def forward(self, ids):
        x = self.table(ids) + self.shift
        for layer in self.layers:
            x = layer(x)
        x, _ = self.attention(x, x, x)
        return self.head(x @ self.free)


def compressed(model, path, codec):
    df11.torch.save_model(model, path, codec=codec)
    return path


@pytest.mark.parametrize("codec", ["df11", "rans", "fast", "auto"])
@pytest.mark.parametrize("prefetch", [0, 1])
def test_any_module_gives_the_same_bits(tmp_path, codec, prefetch):
    torch.manual_seed(0)
    model = Net().train()
    ids = torch.randint(0, 500, (6, 3))
    with torch.no_grad():
        expected = model(ids)
    path = compressed(model, tmp_path / "m.safetensors", codec)
    other = Net().train()
    attached = df11.torch.attach(other, path, prefetch=prefetch)
    for _ in range(3):
        with torch.no_grad():
            assert torch.equal(other(ids), expected)
    assert attached.parameter_names
    # Placeholders take no memory.
    named = dict(other.named_parameters(remove_duplicate=False))
    for name in attached.parameter_names:
        assert named[name].untyped_storage().nbytes() == 2
        assert named[name].isnan().all()
    state = model.state_dict()
    assert set(other.state_dict()) == set(state)
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    with pytest.raises(df11.InvalidInputError, match="already"):
        df11.torch.attach(other, path)
    attached.detach()
    assert all(torch.equal(v, state[k]) for k, v in other.named_parameters())
    assert all(parameter.requires_grad for parameter in other.parameters())
    with torch.no_grad():
        assert torch.equal(other(ids), expected)
    assert copy.deepcopy(other) is not other


def test_modules_on_the_meta_device_never_hold_their_weights(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(300, 300) for _ in range(4))).to(torch.bfloat16)
    path = compressed(model, tmp_path / "m.safetensors", "rans")
    with torch.device("meta"):
        other = nn.Sequential(*(nn.Linear(300, 300) for _ in range(4))).to(torch.bfloat16)
    attached = df11.torch.attach(other, path, prefetch=0)
    x = torch.randn(5, 300).to(torch.bfloat16)
    assert torch.equal(other(x), model(x))
    assert attached.blocks == ["0", "1", "2", "3"]
    assert attached.peak_buffer_bytes == attached.largest_block_bytes


@pytest.mark.parametrize("codec", ["df11", "rans"])
def test_what_pytorch_makes_tensors_on_by_default_is_no_matter(tmp_path, codec):
    model = Net().eval()
    path, ids = compressed(model, tmp_path / "m.safetensors", codec), torch.randint(0, 500, (6, 3))
    other = Net().eval()
    with torch.device("meta"), torch.no_grad():
        found = df11.torch.load_file(path)
        df11.torch.attach(other, path)
        assert torch.equal(other(ids), model(ids))
        state = other.state_dict()
    for name, value in found.items():
        assert value.device.type == "cpu" and torch.equal(value, model.state_dict()[name])
        assert torch.equal(state[name], value)


def test_gradients_flow_and_weights_are_not_kept_for_them(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(6))).to(torch.bfloat16)
    model.requires_grad_(False)
    path = compressed(model, tmp_path / "m.safetensors", "df11")
    other = copy.deepcopy(model)
    attached = df11.torch.attach(other, path, prefetch=0)
    grads = []
    for each in (model, other):
        x = torch.randn(3, 256, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
        x.requires_grad_()
        each(x).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads) and grads[0].abs().sum() > 0
    # One buffer was enough for six layers, although all of them were needed again.
    assert attached.peak_buffer_bytes == attached.largest_block_bytes


@pytest.mark.parametrize("codec", ["df11", "rans"])
def test_lora_on_top_has_the_same_gradients(tmp_path, codec):
    peft = pytest.importorskip("peft")
    model, _ = make_model("llama")
    path = compressed(model, tmp_path / "m.safetensors", codec)
    other = copy.deepcopy(model)
    df11.torch.attach(other, path)
    ids, results = torch.randint(0, 1000, (2, 9)), []
    for each in (model, other):
        config = peft.LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"], r=4)
        tuned = peft.get_peft_model(each, config)
        torch.manual_seed(1)
        adapters = [p for n, p in tuned.named_parameters() if "lora" in n]
        optimizer = torch.optim.SGD(adapters, 0.1)
        for parameter in adapters:
            parameter.data.normal_(0, 0.02)
        for _ in range(2):
            optimizer.zero_grad()
            loss = tuned(ids, labels=ids).loss
            loss.backward()
            optimizer.step()
        results.append([loss, *adapters, *(p.grad for p in adapters)])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    assert all(p.grad.abs().sum() > 0 for p in adapters)


def test_what_would_change_weights_is_refused_and_changes_nothing(tmp_path):
    torch.manual_seed(0)
    model = Net()
    path = compressed(model, tmp_path / "m.safetensors", "rans")
    attached = df11.torch.attach(model, path)
    dtypes = {p.dtype for p in model.parameters()}
    for wrong in (model.float, model.half, lambda: model.to("meta")):
        with pytest.raises(df11.UnsupportedError, match="stays compressed"):
            wrong()
    assert {p.dtype for p in model.parameters()} == dtypes
    model.to(torch.bfloat16).cpu().eval()
    for wrong in (copy.deepcopy, pickle.dumps):
        with pytest.raises(df11.InvalidInputError):
            wrong(model)
    with pytest.raises(df11.InvalidInputError, match="detach"):
        model.load_state_dict(model.state_dict())
    assert str(path) in repr(attached)


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).to(torch.bfloat16)
    path = compressed(model, tmp_path / "m.safetensors", "rans")

    def refused(other, match, kind=df11.InvalidInputError, **options):
        before = {k: v.clone() for k, v in other.state_dict().items()}
        with pytest.raises(kind, match=match):
            df11.torch.attach(other, path, **options)
        assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())

    refused(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)), "dtype=torch.bfloat16")
    refused(nn.Sequential(nn.Linear(256, 100).to(torch.bfloat16)), "has the shape")
    refused(nn.Sequential(nn.Linear(256, 256)).to(torch.bfloat16), "tensors in it are not")
    bigger = nn.Sequential(*model, nn.Linear(2, 2)).to(torch.bfloat16)
    refused(bigger, "parameters of the module are not in it")
    refused(model, "linear is", linear="fast")
    refused(model, "is for cards", linear="fused")
    refused(model, "prefetch", prefetch=3)
    df11.torch.attach(bigger, path, strict=False)


def test_damage_is_an_error_of_the_forward_pass_and_not_a_number(tmp_path):
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512)).to(torch.bfloat16)
    path = compressed(model, tmp_path / "m.safetensors", "rans")
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    df11.torch.attach(model, path)
    with pytest.raises(df11.CorruptError, match=r"tensor .*weight"):
        model(torch.zeros(1, 512, dtype=torch.bfloat16))
    # The next call fails as well, and does not hang.
    with pytest.raises(df11.CorruptError):
        model(torch.zeros(1, 512, dtype=torch.bfloat16))


def test_exceptions_of_the_module_leave_it_usable(tmp_path):
    torch.manual_seed(0)
    model = Net().eval()
    ids = torch.randint(0, 500, (4, 2))
    with torch.no_grad():
        expected = model(ids)
        attached = df11.torch.attach(model, compressed(model, tmp_path / "m", "rans"))
        handle = model.layers[1].linear1.register_forward_pre_hook(lambda *_: 1 / 0)
        model.train()
        with pytest.raises(ZeroDivisionError):
            model(ids)
        handle.remove()
        model.eval()
        assert torch.equal(model(ids), expected)
    assert all(block.users == 0 for block in attached._blocks)


def test_threads_share_a_model(tmp_path):
    torch.manual_seed(0)
    model = Net().eval()
    inputs = [torch.randint(0, 500, (5, 2)) for _ in range(8)]
    with torch.no_grad():
        expected = [model(ids) for ids in inputs]
    df11.torch.attach(model, compressed(model, tmp_path / "m", "fast"))
    wrong = []

    def work(i):
        with torch.no_grad():
            for _ in range(5):
                if not torch.equal(model(inputs[i]), expected[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_compiled_modules_give_the_same_as_without_compression(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(3))).to(torch.bfloat16)
    path = compressed(model, tmp_path / "m", "rans")
    x = torch.randn(4, 256).to(torch.bfloat16)
    other = copy.deepcopy(model)
    df11.torch.attach(other, path)
    with torch.no_grad():
        expected = torch.compile(model, backend="aot_eager")(x)
        torch._dynamo.reset()
        run = torch.compile(other, backend="aot_eager")
        for _ in range(3):
            assert torch.equal(run(x), expected)


MEMORY = """
import sys, torch, df11.torch
from torch import nn
path, mode = sys.argv[1:]
def peak():
    # Since this program began, unlike what getrusage tells after a fork.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
width, depth = 2048, 16
with torch.device("meta"):
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
model = model.to(torch.bfloat16)
x = torch.ones(1, width, dtype=torch.bfloat16)
torch.nn.functional.linear(x, torch.ones(8, width, dtype=torch.bfloat16))
before = peak()
if mode == "plain":
    state = df11.torch.load_file(path)
    model.load_state_dict(state, assign=True)
else:
    attached = df11.torch.attach(model, path, prefetch=0, threads=1)
with torch.no_grad():
    y = model(x)
    y = model(x)
print(peak() - before, depth * width * width * 2, width * width * 2, y.float().sum().item())
"""


@pytest.mark.parametrize(("codec", "most"), [("df11", 0.72), ("rans", 0.70)])
def test_weights_take_no_more_memory_than_they_are_said_to(tmp_path, codec, most):
    torch.manual_seed(0)
    width, depth = 2048, 16
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    model = model.to(torch.bfloat16)
    for parameter in model.parameters():
        # As trained weights are, unlike the uniform ones of new modules.
        parameter.data.normal_(0, 0.02)
    path = compressed(model, tmp_path / "m", codec)

    def run(mode):
        command = [sys.executable, "-c", MEMORY, str(path), mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [float(field) for field in done.stdout.split()]

    grown, whole, block, result = run("attached")
    plain, _, _, expected = run("plain")
    assert result == expected
    # What the allocator and threads take besides.
    assert grown < most * whole + block + 8e6, (grown, whole)
    assert plain > whole
    # By counting: what is stored, and the one buffer.
    with torch.device("meta"):
        other = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    other = other.to(torch.bfloat16)
    attached = df11.torch.attach(other, path, prefetch=0)
    with torch.no_grad():
        other(torch.ones(1, width, dtype=torch.bfloat16))
    placeholders = sum(p.untyped_storage().nbytes() for p in other.parameters())
    counted = attached.stored_bytes + attached.peak_buffer_bytes + placeholders
    assert counted < most * whole + block, (counted, whole)
