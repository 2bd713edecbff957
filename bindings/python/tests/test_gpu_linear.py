"""Linear layers whose weights are multiplied compressed, on the card of `test_gpu`."""

import copy
import gc
import threading

import pytest
import torch
from conftest import CARD, HOME
from test_gpu import compressed, damage, emulated_alone, normal_, on_meta, wait_for_the_card
from torch import nn

import df11
import df11._df11 as extension
import df11.torch

pytestmark = [
    pytest.mark.skipif(not hasattr(extension, "GpuDevice"), reason="Linux alone"),
    pytest.mark.usefixtures("at_home"),
]

COLUMNS, ROWS = 320, 200


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(COLUMNS, ROWS)
        self.down = nn.Linear(ROWS, COLUMNS, bias=False)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.to(torch.bfloat16)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x


def stated(weight, bias, x):
    """y = W x + b in the order of summation that docs/gpu.md states, step by step."""
    rows, columns = weight.shape
    flat = torch.zeros(-(-weight.numel() // 1024) * 1024, dtype=torch.float64)
    flat[: weight.numel()] = weight.flatten().double()
    position = torch.arange(len(flat))
    # An F64 product of BF16 numbers is exact, and so is its sum with an F32 number, but for its
    # 53 bits: rounded to F32, it is what `fma` gives on the numbers of these tests.
    results = torch.zeros(len(x), rows)
    for row in range(rows):
        begin, end = row * columns, (row + 1) * columns
        for number, vector in enumerate(x.double()):
            total = torch.zeros(())
            for segment in range(begin // 1024, (end - 1) // 1024 + 1):
                at = position[1024 * segment : 1024 * (segment + 1)]
                inside = (at >= begin) & (at < end)
                products = torch.zeros(1024, dtype=torch.float64)
                products[inside] = flat[at[inside]] * vector[at[inside] - begin]
                # Lane l has elements 256 i + 8 l + j.
                lanes = products.view(4, 32, 8)
                sums = torch.zeros(32)
                for i in range(4):
                    for j in range(8):
                        sums = (sums.double() + lanes[i, :, j]).float()
                for apart in (16, 8, 4, 2, 1):
                    sums = sums + sums[torch.arange(32) ^ apart]
                total = total + sums[0]
            results[number, row] = total
    if bias is not None:
        results = results + bias.float()
    return results.to(torch.bfloat16)


@pytest.mark.parametrize("codec", ["df11", "fast"])
def test_fused_layers_add_in_the_stated_order(tmp_path, codec):
    model = normal_(Net())
    path = compressed(model, tmp_path, codec)
    other = on_meta(Net)
    attached = df11.torch.attach(other, path, device=CARD, linear="fused")
    seen = []
    for name in ("up", "down"):
        layer = getattr(other.layers[1], name)
        layer.register_forward_hook(lambda m, args, out: seen.append((args[0], out)))
    x = torch.randn(2, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        other(x)
    for (given, found), layer in zip(seen, (model.layers[1].up, model.layers[1].down), strict=True):
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        # On the CPU, where so many small steps are the faster.
        with torch.device("cpu"):
            expected = stated(*(None if t is None else t.cpu() for t in (weight, bias, given)))
        assert torch.equal(found.cpu(), expected)
    # Nothing was decoded for it.
    assert attached.peak_buffer_bytes == 0
    attached.check()


@pytest.mark.parametrize("codec", ["df11", "fast"])
@pytest.mark.parametrize("shape", [(1,), (1, 3), (8,)])
def test_fused_layers_are_close_to_pytorch(tmp_path, codec, shape):
    model = normal_(Net())
    other = copy.deepcopy(model)
    attached = df11.torch.attach(
        other, compressed(model, tmp_path, codec), device=CARD, linear="fused"
    )
    x = torch.randn(*shape, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        found, expected = other(x), model(x)
    assert attached.peak_buffer_bytes == 0
    assert found.shape == expected.shape and found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


@emulated_alone
def test_what_is_prepared_for_products_is_counted(tmp_path):
    model = normal_(Net())
    path = compressed(model, tmp_path, "fast")
    gpu = extension.GpuDevice("emulated")
    # What earlier tests left behind must not go away meanwhile.
    gc.collect()
    attached = df11.torch.attach(model, path, device=CARD, linear="fused")
    free, counted = gpu.free_bytes(), attached.device_bytes
    x = torch.randn(2, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        model(x)
    # On the emulated card, vectors, biases and results are there as well.
    others = 2 * (2 * 2 * 2 * (COLUMNS + ROWS) + 2 * ROWS)
    assert attached.device_bytes - counted == free - gpu.free_bytes() - others
    free = gpu.free_bytes()
    with torch.no_grad():
        model(x)
    assert gpu.free_bytes() == free


def test_what_cannot_be_fused_is_decoded_and_has_the_same_bits(tmp_path):
    model = normal_(Net())
    path = compressed(model, tmp_path, "df11")
    other = copy.deepcopy(model).requires_grad_(False)
    attached = df11.torch.attach(other, path, device=CARD, linear="fused")
    # More vectors than the kernels take.
    x = torch.randn(9, COLUMNS).to(torch.bfloat16)
    assert torch.equal(other(x), model(x))
    assert attached.peak_buffer_bytes > 0
    # Vectors that gradients flow to.
    grads = []
    for each in (model.requires_grad_(False), other):
        generator = torch.Generator(HOME).manual_seed(1)
        x = torch.randn(2, COLUMNS, generator=generator).to(torch.bfloat16)
        x.requires_grad_()
        each(x).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)
    # Frames of codec rANS, for which there is no such kernel.
    other = copy.deepcopy(model)
    attached = df11.torch.attach(
        other, compressed(model, tmp_path, "rans"), device=CARD, linear="fused"
    )
    x = torch.randn(1, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(other(x), model(x))
    assert attached.peak_buffer_bytes > 0


class Doubled(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, 2 * self.weight, self.bias)


def test_other_classes_of_layers_have_their_weights_decoded(tmp_path):
    model = normal_(nn.Sequential(Doubled(256, 256)).to(torch.bfloat16))
    other = copy.deepcopy(model)
    path = compressed(model, tmp_path, "fast")
    df11.torch.attach(other, path, device=CARD, linear="fused")
    x = torch.randn(1, 256).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("faster", ["fused", "decode"])
def test_auto_times_each_kind_of_block_and_number_of_vectors_once(tmp_path, monkeypatch, faster):
    from df11.torch import _gpu

    model = normal_(Net())
    other = copy.deepcopy(model)
    attached = df11.torch.attach(
        other, compressed(model, tmp_path, "fast"), device=CARD, linear="auto"
    )
    calls, real = [], _gpu.measure

    def measure(machine, products, number, decode):
        calls.append(number)
        # It runs as it is; what it finds says nothing here.
        fused, decoded = real(machine, products, number, decode)
        assert fused > 0 and decoded > 0
        return (1.0, 2.0) if faster == "fused" else (2.0, 1.0)

    monkeypatch.setattr(_gpu, "measure", measure)
    with torch.no_grad():
        for number in (1, 2, 1, 2):
            x = torch.randn(number, COLUMNS).to(torch.bfloat16)
            found, expected = other(x), model(x)
            if faster == "decode":
                assert torch.equal(found, expected)
            torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    # Both layers are of one kind.
    assert calls == [1, 2]
    kind = ((ROWS, COLUMNS, "fast"), (COLUMNS, ROWS, "fast"))
    assert attached.choices == {(kind, 1): faster, (kind, 2): faster}


def test_damage_that_fused_layers_meet_is_an_error_of_a_later_forward_and_of_check(tmp_path):
    model = normal_(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).to(torch.bfloat16))
    path = compressed(model, tmp_path, "df11")
    damage(path, "1", "df11")
    x, told = torch.ones(1, 256, dtype=torch.bfloat16), r"unit 1 \(tensors 1\.weight\): block"
    for asks in (False, True):
        other = copy.deepcopy(model)
        attached = df11.torch.attach(other, path, device=CARD, linear="fused")
        with torch.no_grad():
            other(x)
            wait_for_the_card()
            with pytest.raises(df11.CorruptError, match=told) as caught:
                if asks:
                    attached.check()
                for _ in range(2):
                    other(x)
        assert (caught.value.tensor, caught.value.clause) == ("1", "D-8.6")
        assert attached.peak_buffer_bytes == 0


def test_layers_of_a_block_with_norms_multiply_compressed_weights(tmp_path):
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(COLUMNS)
            self.layers = nn.ModuleList([Block()])
            self.to(torch.bfloat16)

        def forward(self, x):
            return self.layers[0](self.norm(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Normed() for _ in range(2))

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = normal_(Net())
    path = compressed(model, tmp_path, "fast")
    other = on_meta(Net)
    attached = df11.torch.attach(other, path, device=CARD, linear="fused")
    x = torch.randn(1, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x), atol=0.02, rtol=0.02)
    assert attached.peak_buffer_bytes == 0


def test_a_layer_is_prepared_before_it_is_captured(tmp_path, monkeypatch):
    model = normal_(Net())
    other = copy.deepcopy(model)
    path = compressed(model, tmp_path, "fast")
    attached = df11.torch.attach(other, path, device=CARD, linear="fused")
    x = torch.randn(1, COLUMNS).to(torch.bfloat16)
    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(attached._machine, "is_captured", lambda: True)
        with pytest.raises(df11.UnsupportedError, match=r"up\.weight: 1 vectors .* run"):
            other(x)
    with torch.no_grad():
        expected = other(x)
        monkeypatch.setattr(attached._machine, "is_captured", lambda: True)
        assert torch.equal(other(x), expected)


def test_compiled_modules_and_calls_by_name_give_the_same(tmp_path):
    model = normal_(Net())
    other = copy.deepcopy(model)
    df11.torch.attach(other, compressed(model, tmp_path, "fast"), device=CARD, linear="fused")
    x = torch.randn(1, COLUMNS).to(torch.bfloat16)
    with torch.no_grad():
        expected, one = other(x), other.layers[0].up(x)
        assert torch.equal(other.layers[0].up(input=x), one)
        run = torch.compile(other, backend="aot_eager")
        assert torch.equal(run(x), expected) and torch.equal(run(x), expected)
    torch._dynamo.reset()


def test_threads_share_fused_layers_and_detaching_ends_them(tmp_path):
    model = normal_(Net())
    other = copy.deepcopy(model)
    attached = df11.torch.attach(
        other, compressed(model, tmp_path, "fast"), device=CARD, linear="fused"
    )
    x = torch.randn(1, COLUMNS).to(torch.bfloat16)
    results = []

    def work():
        with torch.no_grad():
            results.append(other(x))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(torch.equal(result, results[0]) for result in results)
    attached.detach()
    with torch.no_grad():
        assert torch.equal(other(x), model(x))
    assert all("forward" not in module.__dict__ for module in other.modules())
