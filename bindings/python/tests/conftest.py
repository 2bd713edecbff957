"""What several tests need: small models of several families, and real weights."""

from __future__ import annotations

import os
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]

#: The card of the tests that are about one: `DF11_DEVICE=cuda` for a real one.
CARD = os.environ.get("DF11_DEVICE", "emulated")
#: Where its modules and tensors are.
HOME = "cpu" if CARD == "emulated" else CARD


@pytest.fixture
def at_home():
    """Make tensors where the card of the tests wants them."""
    import torch

    with torch.device(HOME):
        yield


@pytest.fixture(scope="session")
def fixtures() -> pathlib.Path:
    """Files that the published encoder wrote."""
    return REPOSITORY / "spec" / "vectors" / "official-0.5.0"


@pytest.fixture(scope="session")
def corpus() -> pathlib.Path:
    """all-MiniLM-L6-v2, rounded to BF16."""
    path = REPOSITORY / ".corpus" / "bf16" / "model.safetensors"
    if not path.exists():
        assert "DF11_MUST_RUN" not in os.environ, "tests/fetch_corpus.sh fetches real weights"
        pytest.skip("tests/fetch_corpus.sh fetches real weights")
    return path


@pytest.fixture(scope="session")
def packed(corpus, tmp_path_factory) -> dict[str, pathlib.Path]:
    """The real weights, compressed with each codec, and plain."""
    import df11

    root = tmp_path_factory.mktemp("packed")
    made = {"plain": corpus}
    for codec in ("df11", "rans", "fast", "auto"):
        made[codec] = root / codec
        df11.compress(corpus, made[codec], codec=codec)
    return made


def make_model(family: str, seed: int = 0, tie: bool = False):
    """A small model of a family, in BF16."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 1000,
        "dtype": torch.bfloat16,
        "tie_word_embeddings": tie,
    }
    grouped = sizes | {"num_key_value_heads": 2, "head_dim": 64}
    configs = {
        "llama": lambda: t.LlamaConfig(**grouped),
        "qwen3": lambda: t.Qwen3Config(**grouped),
        "mistral": lambda: t.MistralConfig(**grouped),
        "gemma3": lambda: t.Gemma3TextConfig(**grouped),
        "phi3": lambda: t.Phi3Config(**grouped, pad_token_id=0),
        "qwen3_moe": lambda: t.Qwen3MoeConfig(
            **grouped, moe_intermediate_size=256, num_experts=4, num_experts_per_tok=2
        ),
        "mixtral": lambda: t.MixtralConfig(**grouped, num_local_experts=4),
        "bert": lambda: t.BertConfig(**(sizes | {"tie_word_embeddings": True})),
    }
    auto = t.AutoModelForMaskedLM if family == "bert" else t.AutoModelForCausalLM
    return auto.from_config(configs[family](), dtype=torch.bfloat16).eval(), auto


FAMILIES = ["llama", "qwen3", "mistral", "gemma3", "phi3", "qwen3_moe", "mixtral", "bert"]
