"""Weights that stay compressed on a card. On an emulated one: its kernels run instruction by
instruction, and its streams do nothing before somebody waits for them. On a real one with
`DF11_DEVICE=cuda`, but for what only an emulated one can show."""

import copy
import gc
import json
import subprocess
import sys
import threading

import pytest
import torch
from conftest import CARD, HOME
from torch import nn

import df11
import df11._df11 as extension
import df11.torch

pytestmark = [
    pytest.mark.skipif(not hasattr(extension, "GpuDevice"), reason="Linux alone"),
    pytest.mark.usefixtures("at_home"),
]
emulated_alone = pytest.mark.skipif(CARD != "emulated", reason="about an emulated card")

CODECS = ["df11", "rans", "fast"]


def normal_(model, seed=0):
    """Weights as trained ones are distributed, unlike those of new modules."""
    generator = torch.Generator(HOME).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.up = nn.Linear(64, 160)
        self.down = nn.Linear(160, 64, bias=False)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    """A table that is the head as well, layers, and a weight of its own."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(200, 64)
        self.layers = nn.ModuleList(Layer() for _ in range(4))
        self.free = nn.Parameter(torch.empty(64, 64))
        self.head = nn.Linear(64, 200, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("shift", torch.randn(64))
        self.to(torch.bfloat16)
        normal_(self)

    def forward(self, ids):
        x = self.table(ids) + self.shift
        for layer in self.layers:
            x = layer(x)
        return self.head(x @ self.free)


def compressed(model, folder, codec):
    path = folder / "m.safetensors"
    df11.torch.save_model(model, path, codec=codec)
    return path


def wait_for_the_card():
    """Let an answer that a later forward looks for arrive: none waits for it."""
    if HOME != "cpu":
        torch.cuda.synchronize()


def on_meta(make):
    with torch.device("meta"):
        return make()


@pytest.mark.parametrize("codec", [*CODECS, "auto"])
@pytest.mark.parametrize("prefetch", [0, 1])
def test_a_card_gives_the_same_bits(tmp_path, codec, prefetch):
    torch.manual_seed(0)
    model = Net()
    path = compressed(model, tmp_path, codec)
    other = copy.deepcopy(model)
    attached = df11.torch.attach(other, path, device=CARD, prefetch=prefetch)
    with torch.no_grad():
        for seed in range(3):
            ids = torch.randint(0, 200, (3, 5), generator=torch.Generator(HOME).manual_seed(seed))
            assert torch.equal(other(ids), model(ids))
    attached.check()
    assert attached.parameter_names
    named = dict(other.named_parameters(remove_duplicate=False))
    for name in attached.parameter_names:
        assert named[name].untyped_storage().nbytes() == 2 and named[name].isnan().all()
    state = model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    attached.detach()
    assert all(torch.equal(v, state[k]) for k, v in other.named_parameters())
    with torch.no_grad():
        assert torch.equal(other(ids), model(ids))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("codec", ["rans", "fast"])
def test_frames_of_all_types_give_the_same_bits(tmp_path, codec, dtype):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            content = normal_(nn.Linear(96, 96, bias=False)).weight.detach()
            self.weight = nn.Parameter(content.to(dtype), requires_grad=False)

        def forward(self):
            return self.weight.clone()

    model = Holder()
    path = compressed(model, tmp_path, codec)
    other = on_meta(Holder)
    df11.torch.attach(other, path, device=CARD)
    assert torch.equal(other().view(torch.uint8), model.weight.view(torch.uint8))


def replace(path, name, content):
    """Store other bytes under the name of a tensor."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    out = b""
    for key, value in header.items():
        if key != "__metadata__":
            start, end = value["data_offsets"]
            own = content if key == name else data[start:end]
            value["data_offsets"] = [len(out), len(out) + len(own)]
            value["shape"] = [len(own)] if key == name else value["shape"]
            out += own
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + out)


def test_a_frame_that_is_not_compressed_is_copied_on_the_card(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    model = normal_(nn.Sequential(nn.Linear(128, 128, bias=False)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "rans")
    bits = torch.randint(-(2**15), 2**15, (128, 128), dtype=torch.int16)
    frame = df11.encode(bits.cpu().numpy().view(ml_dtypes.bfloat16))
    assert len(frame) > bits.nbytes
    replace(path, "0.weight", frame)
    other = copy.deepcopy(model)
    attached = df11.torch.attach(other, path, device=CARD)
    assert next(iter(attached._stored.all.values())).codec == "raw"
    seen = []
    other[0].register_forward_pre_hook(lambda module, _: seen.append(module.weight.clone()))
    other(torch.zeros(1, 128, dtype=torch.bfloat16))
    assert torch.equal(seen[0].view(torch.int16), bits)


@pytest.mark.parametrize("codec", CODECS)
def test_a_parameter_of_several_tensors_is_put_together_on_the_card(tmp_path, codec):
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Module()])
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                setattr(self.layers[0], name, nn.Linear(64, 64, bias=False))
            self.to(torch.bfloat16)

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(64, 192, bias=False).to(torch.bfloat16)
            self.out = nn.Linear(64, 64, bias=False).to(torch.bfloat16)

        def forward(self, x):
            return self.out(self.qkv(x)[:, 64:128])

    model = normal_(Parts())
    path = compressed(model, tmp_path, codec)
    for order in ("qkv", "vqk"):
        names = [f"layers.0.{name}_proj.weight" for name in order]
        other = on_meta(Whole)
        chosen = {"qkv.weight": names, "out.weight": ["layers.0.o_proj.weight"]}
        df11.torch.attach(other, path, device=CARD, names=chosen)
        state = model.state_dict()
        expected = torch.cat([state[name] for name in names])
        assert torch.equal(other.state_dict()["qkv.weight"], expected)
        x = torch.randn(3, 64).to(torch.bfloat16)
        middle = nn.functional.linear(x, expected)[:, 64:128]
        wanted = nn.functional.linear(middle, state["layers.0.o_proj.weight"])
        with torch.no_grad():
            assert torch.equal(other(x), wanted)


@emulated_alone
def test_memory_is_what_is_said_and_a_second_pass_takes_no_more(tmp_path):
    model = normal_(nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(5))))
    model = model.to(torch.bfloat16)
    path = compressed(model, tmp_path, "df11")
    gpu = extension.GpuDevice("emulated")
    gc.collect()
    before = gpu.free_bytes()
    other = copy.deepcopy(model)
    attached = df11.torch.attach(other, path, device=CARD, prefetch=1)
    # The emulated card has the buffers of its kernels besides, one for each block.
    taken = before - gpu.free_bytes() - 5 * 256 * 256 * 2
    assert taken == attached.device_bytes
    assert attached.device_bytes < 1.35 * attached.stored_bytes
    x, addresses = torch.randn(2, 256).to(torch.bfloat16), []

    def note(module, _):
        addresses.append(module.weight.data_ptr())

    for layer in other:
        layer.register_forward_pre_hook(note)
    free = gpu.free_bytes()
    with torch.no_grad():
        for _ in range(4):
            other(x)
    assert gpu.free_bytes() == free
    assert len(set(addresses)) == 2, "two buffers are enough"
    assert attached.peak_buffer_bytes == 2 * attached.largest_block_bytes
    attached.detach()
    del attached, other
    gc.collect()
    assert gpu.free_bytes() == before


@emulated_alone
@pytest.mark.parametrize("linear", ["decode", "fused"])
def test_a_module_that_is_dropped_takes_its_memory_on_the_card_along(tmp_path, linear):
    model = normal_(nn.Sequential(*(nn.Linear(256, 256) for _ in range(2))).to(torch.bfloat16))
    path = compressed(model, tmp_path, "fast")
    gpu = extension.GpuDevice("emulated")
    gc.collect()
    before = gpu.free_bytes()
    df11.torch.attach(model, path, device=CARD, linear=linear)
    with torch.no_grad():
        model(torch.zeros(1, 256, dtype=torch.bfloat16))
    assert gpu.free_bytes() < before
    del model
    gc.collect()
    assert gpu.free_bytes() == before


def test_weights_that_someone_keeps_stay_what_they_were(tmp_path):
    make = lambda: nn.Sequential(*(nn.Linear(256, 256) for _ in range(3)))  # noqa: E731
    model = normal_(make().to(torch.bfloat16))
    other = copy.deepcopy(model)
    df11.torch.attach(other, compressed(model, tmp_path, "fast"), device=CARD, prefetch=0)
    kept = []
    for layer in other:
        layer.register_forward_pre_hook(lambda module, _: kept.append(module.weight.view(-1)))
    with torch.no_grad():
        other(torch.zeros(1, 256, dtype=torch.bfloat16))
    for found, layer in zip(kept, model, strict=True):
        assert torch.equal(found, layer.weight.view(-1))


@emulated_alone
def test_memory_is_written_after_the_stream_that_asked_for_it(tmp_path, monkeypatch):
    from df11.torch import _machine

    model = normal_(nn.Sequential(*(nn.Linear(256, 256) for _ in range(3))).to(torch.bfloat16))
    path = compressed(model, tmp_path, "fast")
    attached = df11.torch.attach(model, path, device=CARD)
    waits, real = [], _machine._Stream.wait_stream

    def wait_stream(stream, other):
        waits.append((stream, other))
        real(stream, other)

    monkeypatch.setattr(_machine._Stream, "wait_stream", wait_stream)
    with torch.no_grad():
        model(torch.zeros(1, 256, dtype=torch.bfloat16))
    # A new buffer for the second layer, whose memory PyTorch's stream may not be done with, and
    # that of the first for the third.
    pair = (attached._side, attached._machine.current())
    assert waits.count(pair) == 2 and waits.count(pair[::-1]) == 2


def damage(path, name, codec):
    """Spoil the code of a unit so that its kernel finds it, or the coded bytes of a frame."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    key = f"{name}.encoded_exponent" if codec == "df11" else f"{name}.weight"
    start, end = (8 + length + at for at in header[key]["data_offsets"])
    if codec == "df11":
        data[start:end] = b"\xff" * (end - start)
    else:
        data[(start + end) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_frame_is_refused_with_its_name_before_anything_changes(tmp_path):
    model = normal_(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "rans")
    damage(path, "1", "rans")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(df11.CorruptError, match=r"tensor 1\.weight") as caught:
        df11.torch.attach(model, path, device=CARD)
    assert caught.value.tensor == "1.weight"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("prefetch", [0, 1])
def test_a_damaged_unit_is_an_error_of_a_later_forward_with_its_name(tmp_path, prefetch):
    model = normal_(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "df11")
    damage(path, "1", "df11")
    attached = df11.torch.attach(model, path, device=CARD, prefetch=prefetch)
    x = torch.zeros(1, 256, dtype=torch.bfloat16)
    with torch.no_grad():
        model(x)
        for again in range(2):
            wait_for_the_card()
            with pytest.raises(df11.CorruptError, match=r"1 \(tensors 1\.weight\): block") as e:
                # The kernels' answer is there when the one after it is asked for.
                for _ in range(1 if again else 3):
                    model(x)
            assert (e.value.tensor, e.value.clause) == ("1", "D-8.6")
    with pytest.raises(df11.CorruptError, match=r"unit 1"):
        attached.check()
    with pytest.raises(df11.CorruptError, match=r"unit 1"):
        model.state_dict()


def test_check_waits_for_what_no_forward_has_told_yet(tmp_path):
    model = normal_(nn.Sequential(nn.Linear(256, 256)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "df11")
    damage(path, "0", "df11")
    attached = df11.torch.attach(model, path, device=CARD)
    with torch.no_grad():
        model(torch.zeros(1, 256, dtype=torch.bfloat16))
    with pytest.raises(df11.CorruptError, match=r"unit 0"):
        attached.check()


def test_gradients_flow_and_weights_are_decoded_again_for_them(tmp_path):
    model = normal_(nn.Sequential(*(nn.Linear(256, 256) for _ in range(3))).to(torch.bfloat16))
    model.requires_grad_(False)
    path = compressed(model, tmp_path, "df11")
    other = copy.deepcopy(model)
    df11.torch.attach(other, path, device=CARD)
    grads = []
    for each in (model, other):
        x = torch.randn(3, 256, generator=torch.Generator(HOME).manual_seed(1)).to(torch.bfloat16)
        x.requires_grad_()
        each(x).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads) and grads[0].abs().sum() > 0


def test_a_backward_pass_after_detach_has_the_module_s_weights(tmp_path):
    model = Net()
    other = on_meta(Net)
    attached = df11.torch.attach(other, compressed(model, tmp_path, "df11"), device=CARD)
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    grads = []
    for layer in (model.layers[0], other.layers[0]):
        given = x.clone().requires_grad_()
        y = layer(given)
        if layer is other.layers[0]:
            attached.detach()
        y.sum().backward()
        grads.append(given.grad)
    assert torch.equal(*grads)


def test_no_memory_for_the_next_block_is_no_fault_of_this_one(tmp_path, monkeypatch):
    model = Net()
    other = on_meta(Net)
    path = compressed(model, tmp_path, "rans")
    attached = df11.torch.attach(other, path, device=CARD, prefetch=1)
    ids = torch.arange(20)
    assert torch.equal(other(ids), model(ids))
    look_ahead, new = attached._look_ahead, attached._new

    def short(_):
        raise torch.OutOfMemoryError("no memory")

    def without_memory(block):
        attached._new = short
        try:
            look_ahead(block)
        finally:
            attached._new = new

    monkeypatch.setattr(attached, "_look_ahead", without_memory)
    assert torch.equal(other(ids), model(ids))

    def broken(_):
        raise RuntimeError("the stream is lost")

    monkeypatch.setattr(attached, "_look_ahead", broken)
    with pytest.raises(RuntimeError, match="lost"):
        other(ids)
    assert all(block.users == 0 and block.flat is None for block in attached._blocks)
    monkeypatch.undo()
    assert torch.equal(other(ids), model(ids))


def test_threads_share_a_model(tmp_path):
    model = normal_(nn.Sequential(*(nn.Linear(96, 96) for _ in range(3))).to(torch.bfloat16))
    path = compressed(model, tmp_path, "fast")
    other = copy.deepcopy(model)
    df11.torch.attach(other, path, device=CARD)
    inputs = [torch.randn(2, 96).to(torch.bfloat16) for _ in range(4)]
    wrong = []

    def work(x):
        with torch.no_grad():
            for _ in range(3):
                if not torch.equal(other(x), model(x)):
                    wrong.append(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_would_move_or_change_weights_is_refused(tmp_path):
    model = normal_(nn.Sequential(nn.Linear(96, 96)).to(torch.bfloat16))
    df11.torch.attach(model, compressed(model, tmp_path, "rans"), device=CARD)
    for wrong in (model.float, lambda: model.to("meta")):
        with pytest.raises(df11.UnsupportedError, match="detach"):
            wrong()
    model.to(HOME).eval()


def test_vectors_are_decoded_once_and_matrices_each_time(tmp_path):
    model = Net()
    other = on_meta(Net)
    attached = df11.torch.attach(other, compressed(model, tmp_path, "fast"), device=CARD)
    named = dict(model.named_parameters(remove_duplicate=False))
    assert attached.parameter_names
    assert all(named[name].dim() > 1 for name in attached.parameter_names)
    vectors = [name for name, parameter in named.items() if parameter.dim() == 1]
    assert vectors and all(torch.equal(other.get_parameter(name), named[name]) for name in vectors)


def test_a_forward_that_decodes_refuses_to_be_captured(tmp_path, monkeypatch):
    model = Net()
    other = on_meta(Net)
    attached = df11.torch.attach(other, compressed(model, tmp_path, "df11"), device=CARD)
    ids = torch.arange(20)
    with monkeypatch.context() as patch:
        patch.setattr(attached._machine, "is_captured", lambda: True)
        with pytest.raises(df11.UnsupportedError, match=r"layers\.0: .* cannot be captured"):
            other(ids)
    assert torch.equal(other(ids), model(ids))


@emulated_alone
def test_other_devices_are_refused_with_the_reason(tmp_path):
    model = normal_(nn.Sequential(nn.Linear(96, 96)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "rans")
    with pytest.raises(df11.InvalidInputError, match="not on mps"):
        df11.torch.attach(model, path, device="mps")
    with pytest.raises(df11.InvalidInputError, match="is no GPU"):
        extension.GpuDevice("gpu")
    # What stands for all cards in this process must not be taken for one.
    assert extension.GpuDevice("emulated").is_emulated
    with pytest.raises(df11.DeviceError, match="has used an emulated card"):
        df11.torch.attach(model, path, device="cuda:1")
    # Emulated cards are two, so that things of one can be taken to the other.
    first, second = extension.GpuDevice("emulated"), extension.GpuDevice("cuda:1")
    stored = first.upload_tensor(extension.Reader(str(path), None, True), "0.weight")
    with pytest.raises(df11.InvalidInputError, match="belongs to"):
        second.batch([(stored, 0)], [])
    with pytest.raises(df11.DeviceError, match="no device cuda:7"):
        extension.GpuDevice("cuda:7")
    with pytest.raises(df11.InvalidInputError, match="no unit and no frame"):
        first.upload_tensor(extension.Reader(str(path), None, True), "0.bias")


NO_CARD = """
import ctypes, sys
try:
    ctypes.CDLL("libcuda.so.1")
    print("a driver is here")
    sys.exit()
except OSError:
    pass
import torch, df11.torch
model = torch.nn.Sequential(torch.nn.Linear(96, 96)).to(torch.bfloat16)
df11.torch.save_model(model, sys.argv[1])
try:
    df11.torch.attach(model, sys.argv[1], device="cuda")
except df11.DeviceError as error:
    assert error.kind == "device"
    print(error)
"""


def test_without_a_driver_a_card_is_refused_with_the_reason(tmp_path):
    # In a process of its own, since the emulated card is the driver of this one.
    command = [sys.executable, "-c", NO_CARD, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "a driver is here" in done.stdout:
        pytest.skip("a driver is here")
    assert "cuda:0: no CUDA driver or no device was found (libcuda.so.1" in done.stdout


def test_the_driver_s_names_stay_inside_the_extension():
    # PyTorch's libraries look the same names up, and must find the driver's own.
    import ctypes

    names = ctypes.CDLL(extension.__file__)
    assert hasattr(names, "PyInit__df11")
    assert not any(hasattr(names, name) for name in ("cuInit", "cuLaunchKernel", "cuMemAlloc_v2"))
