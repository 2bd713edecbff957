import json

import pytest
import safetensors.torch
import torch
from conftest import make_model

import df11
import df11.dfloat11 as dfloat11
import df11.torch

PATTERNS = {
    r"lm_head": [],
    r"model\.embed_tokens": [],
    r"model\.layers\.\d+": [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ],
}


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("single", [True, False])
def test_compressed_models_load_and_give_the_same_bits(tmp_path, single):
    model, _ = make_model("llama")
    ids = torch.randint(0, 1000, (2, 9))
    expected = logits(model, ids)
    dfloat11.compress_model(model, PATTERNS, str(tmp_path / "p"), save_single_file=single)
    # The model was not taken apart.
    assert torch.equal(logits(model, ids), expected)
    loaded = dfloat11.DFloat11Model.from_pretrained(str(tmp_path / "p"))
    assert torch.equal(logits(loaded, ids), expected)
    other, _ = make_model("llama", seed=1)
    given = dfloat11.DFloat11Model.from_pretrained(
        str(tmp_path / "p"), device="cpu", bfloat16_model=other, cpu_offload=True
    )
    assert given is other and torch.equal(logits(other, ids), expected)
    # The command, and every other reader, read it as well.
    assert df11.verify(tmp_path / "p").units == 4
    config = json.loads((tmp_path / "p" / "config.json").read_text())["dfloat11_config"]
    assert config == {
        "version": "0.5.0",
        "threads_per_block": [512],
        "bytes_per_thread": 8,
        "pattern_dict": PATTERNS,
    }


def test_files_have_the_names_and_types_of_published_ones(tmp_path, fixtures):
    model, _ = make_model("llama")
    dfloat11.compress_model(model, PATTERNS, str(tmp_path / "p"), save_single_file=False)
    names = {path.name for path in (tmp_path / "p").iterdir()}
    assert names == {
        "config.json",
        "lm_head.safetensors",
        "model.safetensors",
        "model_embed_tokens.safetensors",
        "model_layers_0.safetensors",
        "model_layers_1.safetensors",
    }
    published = safetensors.torch.load_file(fixtures / "real_two_tensors.df11.safetensors")
    kinds = {name.rpartition(".")[2]: (t.dtype, t.dim()) for name, t in published.items()}
    unit = safetensors.torch.load_file(tmp_path / "p" / "model_layers_0.safetensors")
    own = {name.removeprefix("model.layers.0."): t for name, t in unit.items()}
    assert {name: (t.dtype, t.dim()) for name, t in own.items() if name in kinds} == kinds
    # What is in no unit lies beside its layer.
    assert {name for name in own if name not in kinds} == {
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    }
    assert own["luts"].shape[1] == 256 and len(own["split_positions"]) == 6
    rest = safetensors.torch.load_file(tmp_path / "p" / "model.safetensors")
    assert set(rest) == {"model.norm.weight"}


def test_single_files_load_into_a_given_model(tmp_path):
    model, _ = make_model("llama")
    ids = torch.randint(0, 1000, (2, 9))
    expected = logits(model, ids)
    dfloat11.compress_model(model, PATTERNS, str(tmp_path))
    other, _ = make_model("llama", seed=1)
    path = str(tmp_path / "model.safetensors")
    dfloat11.DFloat11Model.from_single_file(path, PATTERNS, other)
    assert torch.equal(logits(other, ids), expected)
    with pytest.raises(FileNotFoundError):
        dfloat11.DFloat11Model.from_single_file(path + "x", PATTERNS, other)
    with pytest.raises(IsADirectoryError):
        dfloat11.DFloat11Model.from_single_file(str(tmp_path), PATTERNS, other)
    with pytest.raises(df11.UnsupportedError, match="not built yet"):
        dfloat11.DFloat11Model.from_pretrained(str(tmp_path), device="cuda:0")


def test_weights_that_the_layout_cannot_hold_stay_plain_with_a_warning(tmp_path):
    model, _ = make_model("llama")
    model.lm_head.weight.data[3, 5] = float("inf")
    with pytest.warns(UserWarning, match="lm_head stays plain"):
        dfloat11.compress_model(model, PATTERNS, str(tmp_path))
    ids = torch.randint(0, 1000, (2, 9))
    loaded = dfloat11.DFloat11Model.from_pretrained(str(tmp_path))
    assert torch.equal(logits(loaded, ids), logits(model, ids))


def test_block_ranges_write_some_units(tmp_path):
    model, _ = make_model("llama")
    options = {"save_single_file": False, "check_correctness": False}
    dfloat11.compress_model(model, PATTERNS, str(tmp_path), block_range=[1, 3], **options)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_embed_tokens.safetensors", "model_layers_0.safetensors"}
    dfloat11.compress_model(model, PATTERNS, str(tmp_path), block_range=[3, 9], **options)
    dfloat11.compress_model(model, PATTERNS, str(tmp_path), block_range=[0, 1], **options)
    ids = torch.randint(0, 1000, (2, 9))
    loaded = dfloat11.DFloat11Model.from_pretrained(str(tmp_path))
    assert torch.equal(logits(loaded, ids), logits(model, ids))


def test_the_parts_fit_together(capsys):
    torch.manual_seed(0)
    weights = [torch.randn(300, 200).to(torch.bfloat16), torch.randn(100).to(torch.bfloat16)]
    codec, counter = dfloat11.get_codec(torch.cat([w.flatten() for w in weights]))
    assert sum(counter.values()) == 60_100
    codec, _, table = dfloat11.get_32bit_codec(counter)
    assert max(length for length, _ in table.values()) <= 32
    luts = dfloat11.get_luts(table)
    assert luts.dtype == torch.uint8 and luts[-1].tolist() == [
        table.get(exponent, (0, 0))[0] for exponent in range(256)
    ]
    parts = dfloat11.encode_weights(weights, codec, 8, 512)
    encoded, signs, positions, gaps, splits = parts
    assert len(signs) == 60_100 and splits.tolist() == [60_000]
    assert positions.dtype == torch.uint32 and positions[-1].item() == 60_100
    assert len(gaps) == 320 * -(-len(encoded) // 4096)
    codec.print_code_table()
    assert len(capsys.readouterr().out.splitlines()) == len(counter)
    with pytest.raises(df11.InvalidInputError, match="not canonical"):
        dfloat11.get_luts({1: (1, 1), 2: (1, 0)})
    with pytest.raises(df11.UnsupportedError):
        dfloat11.encode_weights(weights, codec, 4, 512)
    with pytest.raises(df11.InvalidInputError, match="bfloat16"):
        dfloat11.encode_weights([torch.zeros(3)], codec, 8, 512)


def test_buffers_grow_and_are_used_again():
    small = dfloat11.TensorManager.allocate_bfloat16("cpu", 10)
    large = dfloat11.TensorManager.allocate_bfloat16(torch.device("cpu"), 1000)
    again = dfloat11.TensorManager.allocate_bfloat16("cpu", 500)
    assert (len(small), len(large), len(again)) == (10, 1000, 500)
    assert again.data_ptr() == large.data_ptr()


def test_classes_that_make_units():
    model, _ = make_model("llama")
    classes = dfloat11.get_no_split_classes(model, PATTERNS)
    assert classes == ["Linear", "Embedding", "LlamaDecoderLayer"]
