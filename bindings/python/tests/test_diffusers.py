import pytest
import torch
from safetensors.torch import save_file

import df11
import df11.torch

diffusers = pytest.importorskip("diffusers")


def make_transformer():
    torch.manual_seed(0)
    model = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=256,
        caption_projection_dim=256,
        pooled_projection_dim=128,
        out_channels=4,
    )
    # Weights of new models are uniform, or zeros.
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    return model.to(torch.bfloat16).eval()


def run(model):
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator).to(torch.bfloat16)

    with torch.no_grad():
        return model(
            hidden_states=noise(1, 4, 16, 16),
            encoder_hidden_states=noise(1, 7, 256),
            pooled_projections=noise(1, 128),
            timestep=torch.tensor([5]),
        ).sample


@pytest.mark.parametrize("codec", ["df11", "rans"])
def test_compressed_transformers_load_and_give_the_same_bits(tmp_path, codec):
    import df11.diffusers
    from df11.diffusers import Df11Config

    model = make_transformer()
    expected = run(model)
    assert expected.abs().sum() > 0 and not expected.isnan().any()
    model.save_pretrained(tmp_path / "pipeline" / "transformer")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    # A folder of its own, and a component of a pipeline.
    df11.compress(tmp_path / "pipeline" / "transformer", tmp_path / "alone", codec=codec)
    df11.compress(tmp_path / "pipeline", tmp_path / "all", codec=codec)
    load = diffusers.SD3Transformer2DModel.from_pretrained
    for path, options in (
        (tmp_path / "alone", {}),
        (tmp_path / "all", {"subfolder": "transformer"}),
    ):
        loaded = load(path, torch_dtype=torch.bfloat16, **options)
        assert torch.equal(run(loaded), expected)
        small = [p for p in loaded.parameters() if p.untyped_storage().nbytes() == 2]
        assert len(small) > 10
        decoded = load(path, quantization_config=Df11Config(dequantize=True), **options)
        assert torch.equal(run(decoded), expected)
        assert all(p.untyped_storage().nbytes() > 2 for p in decoded.parameters())
    plain = load(tmp_path / "pipeline" / "transformer", torch_dtype=torch.bfloat16)
    assert torch.equal(run(plain), expected)


def test_a_transformer_in_one_file_attaches(tmp_path):
    model = make_transformer()
    expected = run(model)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    df11.compress(tmp_path / "m.safetensors", tmp_path / "p.safetensors", codec="fast")
    attached = df11.torch.attach(model, tmp_path / "p.safetensors")
    assert torch.equal(run(model), expected)
    assert "transformer_blocks.0" in attached.blocks
