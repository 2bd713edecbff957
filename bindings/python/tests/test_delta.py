import threading

import ml_dtypes
import numpy as np
import pytest
import torch

import df11
import df11.delta as delta

#: Bit patterns that arithmetic would change: zeros, infinities, NaNs of both kinds with payloads.
SPECIAL = [0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7F81, 0xFFFF, 0x0001, 0x807F, 0x3F80]


def pair(elements=200_000, share=0.01, seed=0):
    """Weights as bits of BF16, and the same after a small step."""
    random = np.random.default_rng(seed)
    base = random.normal(0, 0.02, elements).astype(ml_dtypes.bfloat16).view(np.uint16)
    new = base.copy()
    where = random.random(elements) < share
    new[where] += random.integers(1, 3, where.sum()).astype(np.uint16)
    return new, base


def as_bf16(bits):
    return torch.from_numpy(bits.copy()).view(torch.bfloat16)


def bits(tensor):
    return tensor.detach().view(torch.uint16).numpy()


def test_every_bit_comes_back_nans_and_zeros_and_infinities_too():
    all_bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    odd = np.resize(np.array(SPECIAL, np.uint16), 1 << 16)
    for new, base in [(all_bits, odd), (odd, all_bits), (all_bits, all_bits[::-1].copy())]:
        made = delta.encode(as_bf16(new), as_bf16(base))
        assert (bits(delta.apply(as_bf16(base), made)) == new).all()
        array = delta.apply(base.view(ml_dtypes.bfloat16), made)
        assert array.dtype == ml_dtypes.bfloat16 and (array.view(np.uint16) == new).all()


@pytest.mark.parametrize("share", [0, 1e-5, 0.01, 0.5, 1])
def test_in_place_is_as_elsewhere_with_torch_and_with_numpy(share):
    new, base = pair(share=share)
    made = delta.encode(as_bf16(new), as_bf16(base))
    assert made == delta.encode(new.view(ml_dtypes.bfloat16), base.view(ml_dtypes.bfloat16))
    elsewhere = delta.apply(as_bf16(base), made)
    over = as_bf16(base).view(200, 1000)
    at = over.data_ptr()
    assert delta.apply(over, made, out=over) is over and over.data_ptr() == at
    other = torch.empty(200_000, dtype=torch.bfloat16)
    delta.apply(as_bf16(base), made, out=other)
    array = base.copy().view(ml_dtypes.bfloat16)
    delta.apply(array, made, out=array)
    for found in (bits(elsewhere), bits(over).ravel(), bits(other), array.view(np.uint16)):
        assert (found == new).all()


def test_a_step_of_training_takes_little_and_says_how_much():
    new, base = pair(share=0.005)
    made = delta.encode(as_bf16(new), as_bf16(base))
    told = delta.describe(made)
    assert (told.dtype, told.method, told.elements, told.common) == (
        "BF16",
        "coded",
        200_000,
        200_000,
    )
    assert told.changed == (new != base).sum()
    assert len(made) < 2 * told.changed and len(made) < 0.01 * new.nbytes


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int64", "float64", "bool"])
def test_every_type_comes_back(dtype):
    random = np.random.default_rng(1)
    base = random.integers(0, 100, (300, 7)).astype(dtype)
    new = base.copy()
    new[::9] = new[1::9][: len(new[::9])]
    for a, b in [(new, base), (torch.from_numpy(new), torch.from_numpy(base))]:
        back = delta.apply(b, delta.encode(a, b))
        assert back.dtype == b.dtype and (back == a).all() and type(back) is type(b)


def test_8_bit_floats_come_back():
    base = torch.randn(5000).to(torch.float8_e4m3fn)
    new = (base.float() * 1.07).to(torch.float8_e4m3fn)
    made = delta.encode(new, base)
    assert delta.describe(made).dtype == "F8_E4M3"
    assert torch.equal(delta.apply(base, made).view(torch.uint8), new.view(torch.uint8))


def test_what_is_empty_or_a_scalar_comes_back():
    for shape in [(0,), (3, 0), ()]:
        for make in (torch.ones, np.ones):
            base = make(shape)
            back = delta.apply(base, delta.encode(2 * base, base))
            assert tuple(back.shape) == shape and (back == 2).all()
    assert delta.encode_all({}, {}) == {} and delta.apply_all({}, {}) == {}


def test_rows_that_a_table_has_gained_or_lost_come_back():
    table = torch.randn(100, 64).to(torch.bfloat16)
    for rows in (60, 100, 140):
        new = torch.cat([table, torch.randn(40, 64).to(torch.bfloat16)])[:rows]
        back = delta.apply(table, delta.encode(new, table))
        assert back.shape == new.shape and torch.equal(
            back.view(torch.int16), new.view(torch.int16)
        )
    with pytest.raises(df11.InvalidInputError, match="only the first dimension"):
        delta.encode(torch.ones(4, 5), torch.ones(5, 4))
    with pytest.raises(df11.InvalidInputError, match="no rows of a base"):
        delta.apply(torch.ones(3, 7), delta.encode(torch.ones(8), torch.ones(4)))


def test_the_length_of_blocks_can_be_chosen():
    base = torch.arange(50_000, dtype=torch.float32).to(torch.bfloat16)
    new = torch.where(torch.arange(50_000) % 3 == 0, base * 1.01, base)
    made = {block: delta.encode(new, base, block=block) for block in (None, 4096, 1 << 20)}
    assert len(made[4096]) > len(made[1 << 20])
    assert made[4096] == delta.encode_all({"x": new}, {"x": base}, block=4096)["x"]
    for bytes_ in made.values():
        assert torch.equal(delta.apply(base, bytes_), new)
    for wrong in (0, 4095, 4100, 1 << 21, -64):
        with pytest.raises(df11.InvalidInputError, match=f"not {wrong}"):
            delta.encode(new, base, block=wrong)


def test_a_wrong_base_is_refused_and_left_as_it_was():
    new, base = pair()
    made = delta.encode(as_bf16(new), as_bf16(base))
    wrong = base.copy()
    wrong[123_456] ^= 1
    tensor = as_bf16(wrong)
    with pytest.raises(df11.CorruptError, match="base") as caught:
        delta.apply(tensor, made, out=tensor)
    assert caught.value.clause == "B-5.5" and caught.value.kind == "checksum"
    assert (bits(tensor) == wrong).all()
    for other in (as_bf16(base[:-1]), as_bf16(base).view(torch.float16), as_bf16(base).float()):
        with pytest.raises(df11.InvalidInputError):
            delta.apply(other, made)


def test_if_one_of_several_bases_is_wrong_all_stay_as_they_were_and_it_is_named():
    pairs = {f"layer.{i}": pair(100_000, seed=i) for i in range(6)}
    new = {name: as_bf16(n) for name, (n, _) in pairs.items()}
    base = {name: as_bf16(b) for name, (_, b) in pairs.items()}
    made = delta.encode_all(new, base)
    bits(base["layer.4"])[70_000] ^= 1
    before = {name: bits(tensor).copy() for name, tensor in base.items()}
    for threads in (1, 3):
        with pytest.raises(df11.CorruptError, match=r"layer\.4") as caught:
            delta.apply_all(base, made, out=base, threads=threads)
        assert caught.value.tensor == "layer.4"
        assert all((bits(tensor) == before[name]).all() for name, tensor in base.items())
    bits(base["layer.4"])[70_000] ^= 1
    delta.apply_all(base, made, out=base)
    assert all((bits(tensor) == pairs[name][0]).all() for name, tensor in base.items())


def test_several_tensors_on_threads_are_as_one_after_the_other():
    pairs = {f"{i}": pair(50_000 * (i + 1), seed=i) for i in range(5)}
    new = {name: as_bf16(n) for name, (n, _) in pairs.items()}
    base = {name: as_bf16(b) for name, (_, b) in pairs.items()}
    made = delta.encode_all(new, base, threads=3)
    assert list(made) == list(new)
    assert made == {name: delta.encode(new[name], base[name]) for name in new}
    back = delta.apply_all(base, made, threads=3)
    assert all((bits(back[name]) == pairs[name][0]).all() for name in new)


def test_damage_is_refused_wherever_it_is():
    new, base = pair(20_000)
    made = delta.encode(as_bf16(new), as_bf16(base))
    for at in range(0, len(made), max(1, len(made) // 97)):
        broken = bytearray(made)
        broken[at] ^= 0x40
        with pytest.raises(df11.Error):
            delta.apply(as_bf16(base), broken)
    for length in (0, 7, len(made) - 1):
        with pytest.raises(df11.CorruptError):
            delta.apply(as_bf16(base), made[:length])


def test_input_need_not_be_in_one_piece_but_output_must():
    new, base = pair()
    wide = as_bf16(np.repeat(new, 2)).view(1000, 400)[:, ::2]
    turned = as_bf16(base).view(1000, 200)
    made = delta.encode(wide, turned)
    straight = delta.encode(as_bf16(new).view(1000, 200), turned)
    assert made == straight
    held_apart = torch.stack([turned, turned], 2)[:, :, 0]
    assert not held_apart.is_contiguous()
    assert (bits(delta.apply(held_apart, made)).ravel() == new).all()
    with pytest.raises(df11.InvalidInputError, match="one piece"):
        delta.apply(held_apart, made, out=held_apart)
    frozen = base.copy().view(ml_dtypes.bfloat16)
    frozen.flags.writeable = False
    with pytest.raises(df11.InvalidInputError, match="writable"):
        delta.apply(frozen.reshape(1000, 200), made, out=frozen.reshape(1000, 200))


def test_the_order_of_bytes_in_an_array_does_not_matter():
    base = np.arange(1000, dtype=">f4")
    new = base + np.float32(1)
    made = delta.encode(new.astype(">f4"), base)
    assert made == delta.encode(new.astype("<f4"), base.astype("<f4"))
    assert (delta.apply(base, made) == new).all()
    assert (df11.decode(df11.encode(base)) == base).all()
    with pytest.raises(df11.InvalidInputError, match="one piece"):
        delta.apply(base, made, out=base)


def test_memory_that_would_be_written_twice_is_refused():
    new, base = pair()
    made = delta.encode(as_bf16(new), as_bf16(base))
    one = as_bf16(base)
    tied = {"embed": one, "head": one}
    with pytest.raises(df11.InvalidInputError, match="share memory") as caught:
        delta.apply_all(tied, {"embed": made, "head": made}, out=tied)
    assert "embed" in str(caught.value) and "head" in str(caught.value)
    half = torch.empty(200_001, dtype=torch.bfloat16)
    half[1:] = one
    with pytest.raises(df11.InvalidInputError, match="share memory"):
        delta.apply(half[1:], made, out=half[:-1])
    assert (bits(half[1:]) == base).all()
    # Reading it twice is no harm.
    back = delta.apply_all(tied, {"embed": made, "head": made})
    assert (bits(back["head"]) == new).all() and (bits(back["embed"]) == new).all()


def test_wrong_calls_say_what_is_wrong():
    new, base = as_bf16(pair(1000)[0]), as_bf16(pair(1000)[1])
    made = delta.encode(new, base)
    with pytest.raises(df11.InvalidInputError, match="F32"):
        delta.encode(new.float(), base)
    with pytest.raises(df11.InvalidInputError, match="list"):
        delta.encode([1, 2], base)
    with pytest.raises(df11.UnsupportedError, match="meta"):
        delta.encode(new.to("meta"), base)
    with pytest.raises(df11.UnsupportedError, match="sparse"):
        delta.encode(new.to_sparse(), base)
    with pytest.raises(df11.InvalidInputError, match="there is no base"):
        delta.encode_all({"a": new}, {"b": base})
    with pytest.raises(df11.InvalidInputError, match="1000"):
        delta.apply(base, made, out=torch.empty(999, dtype=torch.bfloat16))
    with pytest.raises(df11.InvalidInputError, match="F32"):
        delta.apply(base, made, out=torch.empty(1000))


def test_autograd_notices_that_weights_were_changed_in_place():
    new, base = pair(1000)
    weight = torch.nn.Parameter(as_bf16(base))
    lost = (weight * weight).sum()
    delta.apply(weight, delta.encode(as_bf16(new), as_bf16(base)), out=weight)
    assert (bits(weight) == new).all() and weight.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        lost.backward()


def test_eight_threads_at_once():
    new, base = pair(300_000)
    made = delta.encode(as_bf16(new), as_bf16(base))
    right = []

    def work():
        for _ in range(5):
            tensor = as_bf16(base)
            delta.apply(tensor, made, out=tensor)
            right.append((bits(tensor) == new).all())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 40 and all(right)
