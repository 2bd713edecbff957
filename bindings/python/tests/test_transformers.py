import pytest
import torch
from conftest import FAMILIES, make_model

import df11
import df11.torch
import df11.transformers
from df11.transformers import Df11Config


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A model, its class, its directory (in shards), an input, and what it gives."""
    model, auto = make_model(request.param)
    path = tmp_path_factory.mktemp(request.param) / "model"
    model.save_pretrained(path, max_shard_size="2MB")
    ids = torch.randint(0, 1000, (2, 11), generator=torch.Generator().manual_seed(0))
    return request.param, model, auto, path, ids


def run(model, ids):
    with torch.no_grad():
        logits = model(ids).logits
        if not hasattr(model, "generate") or "Masked" in type(model).__name__:
            return [logits]
        mask = torch.ones_like(ids)
        more = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
        return [logits, model.generate(ids, **more)]


def equal(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


def test_compressed_directories_load_and_give_the_same_bits(family, tmp_path):
    name, model, auto, path, ids = family
    # Two families are enough for the ways of storing that others share.
    more = ["fast", "auto"] if name in ("llama", "mixtral") else []
    expected = run(model, ids)
    for codec in ["df11", "rans", *more]:
        folder = tmp_path / codec
        df11.compress(path, folder, codec=codec)
        loaded = auto.from_pretrained(folder)
        assert loaded.is_quantized and equal(run(loaded, ids), expected)
        attached = loaded.hf_quantizer.attached
        held = dict(loaded.named_parameters(remove_duplicate=False))
        for parameter in attached.parameter_names:
            assert held[parameter].untyped_storage().nbytes() == 2
        if name in ("qwen3_moe", "mixtral"):
            # Experts, which are stored one by one, stay compressed in their stacks.
            assert any("experts.gate_up_proj" in n for n in attached.parameter_names)
        decoded = auto.from_pretrained(folder, quantization_config=Df11Config(dequantize=True))
        assert not hasattr(decoded, "hf_quantizer") and equal(run(decoded, ids), expected)
        assert equal([*decoded.state_dict().values()], [*model.state_dict().values()])
        assert equal(run(loaded.dequantize(), ids), expected)


@pytest.mark.parametrize("codec", [None, "rans", "fast"])
def test_what_is_saved_again_is_compressed_and_the_same(family, tmp_path, codec):
    _, model, auto, path, ids = family
    df11.compress(path, tmp_path / "p")
    loaded = auto.from_pretrained(tmp_path / "p", quantization_config=Df11Config(codec=codec))
    loaded.save_pretrained(tmp_path / "s")
    # Twice, into the same directory.
    loaded.save_pretrained(tmp_path / "s")
    assert df11.verify(tmp_path / "s").digests_missing == 0
    assert bool(df11.inspect(tmp_path / "s").units) == (codec is None)
    assert equal(run(auto.from_pretrained(tmp_path / "s"), ids), run(model, ids))
    df11.decompress(tmp_path / "s", tmp_path / "u")
    found = df11.torch.load_file(tmp_path / "u")
    expected = df11.torch.load_file(path)
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], expected[key]) for key in found)
    text = (tmp_path / "u" / "config.json").read_text()
    assert "quantization_config" not in text and "dfloat11_config" not in text


def test_plain_directories_load_as_before(family):
    _, model, auto, path, ids = family
    loaded = auto.from_pretrained(path)
    assert not getattr(loaded, "is_quantized", False)
    assert equal(run(loaded, ids), run(model, ids))


def test_other_types_are_refused_with_what_to_do(tmp_path):
    model, auto = make_model("llama")
    model.save_pretrained(tmp_path / "m")
    df11.compress(tmp_path / "m", tmp_path / "p")
    with pytest.raises(df11.UnsupportedError, match="dequantize=True"):
        auto.from_pretrained(tmp_path / "p", dtype=torch.float32)
    decoded = auto.from_pretrained(
        tmp_path / "p", dtype=torch.float32, quantization_config=Df11Config(dequantize=True)
    )
    assert decoded.dtype == torch.float32
    with pytest.raises(df11.UnsupportedError, match="not built yet"):
        auto.from_pretrained(tmp_path / "p", device_map="cuda")


def test_tied_models_stay_tied(tmp_path):
    model, auto = make_model("llama", tie=True)
    model.save_pretrained(tmp_path / "m")
    ids = torch.randint(0, 1000, (2, 11))
    for codec in ("df11", "rans"):
        df11.compress(tmp_path / "m", tmp_path / codec, codec=codec)
        loaded = auto.from_pretrained(tmp_path / codec)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert equal(run(loaded, ids), run(model, ids))


def test_checkpoints_of_another_family_do_not_load(tmp_path):
    import transformers

    model, _ = make_model("llama")
    model.save_pretrained(tmp_path / "m")
    df11.compress(tmp_path / "m", tmp_path / "p")
    config = transformers.BertConfig(dtype=torch.bfloat16)
    with pytest.raises(df11.InvalidInputError, match="no tensor of this model"):
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "p", config=config)


def test_adapters_can_be_trained_on_a_loaded_model(tmp_path):
    peft = pytest.importorskip("peft")
    model, auto = make_model("qwen3")
    model.save_pretrained(tmp_path / "m")
    df11.compress(tmp_path / "m", tmp_path / "p")
    loaded = auto.from_pretrained(tmp_path / "p")
    tuned = peft.get_peft_model(loaded, peft.LoraConfig(target_modules=["q_proj"]))
    ids = torch.randint(0, 1000, (2, 9))
    tuned(ids, labels=ids).loss.backward()
    tuned.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "adapter" / "df11.json").exists()


@pytest.mark.parametrize("codec", ["df11", "rans", "fast"])
def test_a_real_model_gives_the_same_bits(corpus, tmp_path, codec):
    import shutil

    import transformers

    model_path = tmp_path / "model"
    model_path.mkdir()
    shutil.copy(corpus, model_path / "model.safetensors")
    shutil.copy(corpus.parents[1] / "f32" / "config.json", model_path / "config.json")
    df11.compress(model_path, tmp_path / "p", codec=codec)
    ids = torch.randint(1000, 20000, (4, 32), generator=torch.Generator().manual_seed(0))
    outputs = []
    for path in (model_path, tmp_path / "p"):
        model = transformers.AutoModel.from_pretrained(path, dtype=torch.bfloat16)
        with torch.no_grad():
            outputs.append(model(ids).last_hidden_state)
    assert torch.equal(*outputs) and outputs[0].abs().sum() > 0
    attached = model.hf_quantizer.attached
    whole = sum(p.numel() * 2 for p in model.parameters())
    held = attached.stored_bytes + sum(p.untyped_storage().nbytes() for p in model.parameters())
    # What is not compressed is both in the mapped file and in the model.
    assert held < 0.72 * whole, held / whole
