"""Deltas that the kernels of a card apply, on the card of `test_gpu`."""

import pytest
import torch
from conftest import CARD, HOME

import df11
import df11._df11 as extension
from df11 import delta
from df11.torch import _machine

pytestmark = [
    pytest.mark.skipif(not hasattr(extension, "GpuDevice"), reason="Linux alone"),
    pytest.mark.usefixtures("at_home"),
]


def apply_all(base, deltas, out=None):
    if CARD != "emulated":
        return delta.apply_all(base, deltas, out=out)
    # Tensors do not say that they are on an emulated card.
    return delta._apply(base, deltas, out, 0, _machine.open_machine(CARD))


def tensors(seed, dtype=torch.bfloat16, sizes=((300, 250), (77,), (1,), (0, 5))):
    generator = torch.Generator(HOME).manual_seed(seed)
    return {
        f"t{number}": (torch.randn(size, generator=generator) * 0.02).to(dtype)
        for number, size in enumerate(sizes)
    }


def after_a_step(base, seed=1):
    generator = torch.Generator(HOME).manual_seed(seed)
    noise = {name: torch.randn(old.shape, generator=generator) * 1e-4 for name, old in base.items()}
    return {name: (old.float() + noise[name]).to(old.dtype) for name, old in base.items()}


def encoded(new, base):
    on_cpu = [{name: tensor.cpu() for name, tensor in each.items()} for each in (new, base)]
    return delta.encode_all(*on_cpu)


def same(found, expected):
    bits = [{n: t.contiguous().view(torch.uint8) for n, t in e.items()} for e in (found, expected)]
    return bits[0].keys() == bits[1].keys() and all(
        torch.equal(bits[0][name], bits[1][name]) for name in bits[0]
    )


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn]
)
def test_weights_follow_steps_in_place_and_into_new_memory(dtype):
    weights = tensors(0, dtype)
    addresses = {name: tensor.data_ptr() for name, tensor in weights.items()}
    for seed in range(3):
        base = {name: tensor.clone() for name, tensor in weights.items()}
        new = after_a_step(base, seed)
        deltas = encoded(new, base)
        assert same(apply_all(base, deltas), new)
        assert same(apply_all(weights, deltas, out=weights), new)
        assert same(weights, new)
    assert addresses == {name: tensor.data_ptr() for name, tensor in weights.items()}


def test_one_wrong_base_leaves_all_tensors_as_they_were():
    base = tensors(0)
    new = after_a_step(base)
    deltas = encoded(new, base)
    weights = {name: tensor.clone() for name, tensor in base.items()}
    weights["t1"].view(torch.int16)[5] += 1
    before = {name: tensor.clone() for name, tensor in weights.items()}
    with pytest.raises(df11.CorruptError, match=r"tensor t1: .* nothing was changed") as caught:
        apply_all(weights, deltas, out=weights)
    assert caught.value.tensor == "t1"
    assert same(weights, before)
    # Applied twice, a delta finds its own result, which is another base.
    apply_all(base, deltas, out=base)
    with pytest.raises(df11.CorruptError, match="tensor t0"):
        apply_all(base, deltas, out=base)
    assert same(base, new)


def test_a_damaged_delta_is_refused_with_its_name_before_anything_changes():
    base = tensors(0)
    deltas = encoded(after_a_step(base), base)
    weights = {name: tensor.clone() for name, tensor in base.items()}
    damaged = bytearray(deltas["t0"])
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(df11.Error, match="tensor t0: ") as caught:
        apply_all(weights, {**deltas, "t0": bytes(damaged)}, out=weights)
    assert caught.value.tensor == "t0" and caught.value.clause
    assert same(weights, base)


def test_a_table_that_has_grown_gets_its_new_rows():
    base = tensors(0, sizes=((300, 64),))
    rows = tensors(1, sizes=((320, 64),))["t0"]
    new = {"t0": torch.cat([after_a_step(base)["t0"], rows[300:]])}
    assert same(apply_all(base, encoded(new, base)), new)


def test_what_cannot_be_applied_is_refused_with_the_reason():
    base = tensors(0)
    deltas = encoded(after_a_step(base), base)
    shared = {**base, "t1": base["t0"].view(-1)[:77]}
    with pytest.raises(df11.InvalidInputError, match="share memory"):
        apply_all(shared, deltas, out=shared)
    turned = {"t0": base["t0"].t().contiguous().t()}
    with pytest.raises(df11.InvalidInputError, match="contiguous"):
        apply_all(turned, {"t0": deltas["t0"]}, out=turned)
    other = {"t0": base["t0"].half()}
    with pytest.raises(df11.InvalidInputError, match="type BF16"):
        apply_all(other, {"t0": deltas["t0"]})
    short = {"t0": base["t0"][1:]}
    with pytest.raises(df11.InvalidInputError, match="out has 74750 elements"):
        apply_all(short, {"t0": deltas["t0"]}, out=short)
    with pytest.raises(df11.InvalidInputError, match="not a tensor on"):
        apply_all({"t0": [1.0]}, {"t0": deltas["t0"]})
