"""Models as headers alone: the shapes of published configurations, in sparse files of full length.

`df11 plan` reads nothing but headers, so it makes the plan that it would make for the weights.
"""

import json
import os
import struct
from pathlib import Path

#: From config.json of meta-llama/Llama-3.1-405B.
LLAMA_405B = {
    "model_type": "llama", "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
    "num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False,
}
#: From config.json of deepseek-ai/DeepSeek-V3 (R1 has the same shapes), as converted to BF16.
DEEPSEEK_671B = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_nextn_predict_layers": 1,
    "first_k_dense_replace": 3, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "tie_word_embeddings": False,
}


def llama(c):
    """List the tensors of a Llama: name, type, shape."""
    h, inner, head = c["hidden_size"], c["intermediate_size"], c["hidden_size"] // c["num_attention_heads"]
    keys = c["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", "BF16", (c["vocab_size"], h)
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", "BF16", (h,)
        yield f"{at}.mlp.down_proj.weight", "BF16", (h, inner)
        yield f"{at}.mlp.gate_proj.weight", "BF16", (inner, h)
        yield f"{at}.mlp.up_proj.weight", "BF16", (inner, h)
        yield f"{at}.post_attention_layernorm.weight", "BF16", (h,)
        yield f"{at}.self_attn.k_proj.weight", "BF16", (keys, h)
        yield f"{at}.self_attn.o_proj.weight", "BF16", (h, h)
        yield f"{at}.self_attn.q_proj.weight", "BF16", (h, h)
        yield f"{at}.self_attn.v_proj.weight", "BF16", (keys, h)
    yield "model.norm.weight", "BF16", (h,)
    yield "lm_head.weight", "BF16", (c["vocab_size"], h)


def deepseek(c):
    """List the tensors of a DeepSeek-V3: name, type, shape."""
    h, heads, moe = c["hidden_size"], c["num_attention_heads"], c["moe_intermediate_size"]
    query = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    value = c["qk_nope_head_dim"] + c["v_head_dim"]

    def mlp(at, inner):
        for name, shape in ("gate", (inner, h)), ("up", (inner, h)), ("down", (h, inner)):
            yield f"{at}.{name}_proj.weight", "BF16", shape

    yield "model.embed_tokens.weight", "BF16", (c["vocab_size"], h)
    for layer in range(c["num_hidden_layers"] + c["num_nextn_predict_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", "BF16", (h,)
        yield f"{at}.post_attention_layernorm.weight", "BF16", (h,)
        attention = f"{at}.self_attn"
        yield f"{attention}.q_a_proj.weight", "BF16", (c["q_lora_rank"], h)
        yield f"{attention}.q_a_layernorm.weight", "BF16", (c["q_lora_rank"],)
        yield f"{attention}.q_b_proj.weight", "BF16", (heads * query, c["q_lora_rank"])
        keys = c["kv_lora_rank"] + c["qk_rope_head_dim"]
        yield f"{attention}.kv_a_proj_with_mqa.weight", "BF16", (keys, h)
        yield f"{attention}.kv_a_layernorm.weight", "BF16", (c["kv_lora_rank"],)
        yield f"{attention}.kv_b_proj.weight", "BF16", (heads * value, c["kv_lora_rank"])
        yield f"{attention}.o_proj.weight", "BF16", (h, heads * c["v_head_dim"])
        if layer < c["first_k_dense_replace"]:
            yield from mlp(f"{at}.mlp", c["intermediate_size"])
        else:
            yield f"{at}.mlp.gate.weight", "BF16", (c["n_routed_experts"], h)
            yield f"{at}.mlp.gate.e_score_correction_bias", "F32", (c["n_routed_experts"],)
            for expert in range(c["n_routed_experts"]):
                yield from mlp(f"{at}.mlp.experts.{expert}", moe)
            yield from mlp(f"{at}.mlp.shared_experts", moe * c["n_shared_experts"])
        if layer >= c["num_hidden_layers"]:
            yield f"{at}.embed_tokens.weight", "BF16", (c["vocab_size"], h)
            yield f"{at}.enorm.weight", "BF16", (h,)
            yield f"{at}.hnorm.weight", "BF16", (h,)
            yield f"{at}.eh_proj.weight", "BF16", (h, 2 * h)
            yield f"{at}.shared_head.norm.weight", "BF16", (h,)
            yield f"{at}.shared_head.head.weight", "BF16", (c["vocab_size"], h)
    yield "model.norm.weight", "BF16", (h,)
    yield "lm_head.weight", "BF16", (c["vocab_size"], h)


def many(count):
    """List the tensors of a model with very many: blocks of ten matrices."""
    for number in range(count):
        yield f"model.layers.{number // 10}.m{number % 10}.weight", "BF16", (256, 1024)


def bytes_of(dtype, shape):
    """Return the bytes of a tensor."""
    size = {"BF16": 2, "F32": 4}[dtype]
    for dimension in shape:
        size *= dimension
    return size


def write(folder, tensors, config, shard_bytes):
    """Write a model without weights, in shards of at most this many bytes. Returns all bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    shards, filled = [[]], 0
    for name, dtype, shape in tensors:
        size = bytes_of(dtype, shape)
        if filled + size > shard_bytes and shards[-1]:
            shards.append([])
            filled = 0
        shards[-1].append((name, dtype, shape, size))
        filled += size
    index, total = {}, 0
    for number, shard in enumerate(shards, 1):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        for name, dtype, shape, size in shard:
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
            index[name] = file
            at += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            os.truncate(folder / file, 8 + len(text) + at)
        total += at
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)
    return total
