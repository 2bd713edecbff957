#!/usr/bin/env python3
"""Makes pairs of checkpoints for `run_delta.sh`: a base and what it became, as BF16.

    delta_pairs.py ORIGINAL.safetensors VOCABULARY.txt OUT [TEXT...]

ORIGINAL is all-MiniLM-L6-v2 in F32. Pairs, each a folder OUT/NAME with base.safetensors and
new.safetensors:

  seeded-RHO   every weight plus seeded normal noise of RHO times the deviation of its tensor
  finetune     100 steps of AdamW (2e-5) on masked words, F32 masters that begin as ORIGINAL
  rl           step 21 against step 20 at 1e-6: a noisy reward instead of the true word, clipped
  chain-STEP   the same, steps 0 to 20, for chains

The last three need jax, and are left out with a message where it is not installed.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

BATCH, LENGTH, MASK = 4, 64, 103


def read(path):
    data = Path(path).read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + n + start : 8 + n + end], "<f4")
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def bf16(values):
    """To the nearest BF16, ties to even, as bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def write(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [at, at + 2 * values.size]}
        at += 2 * values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            out.write(bf16(values).tobytes())


def pair(out, name, base, new):
    write(out / name / "base.safetensors", base)
    write(out / name / "new.safetensors", new)


def seeded(out, original):
    rounded = {k: (bf16(v).astype(np.uint32) << 16).view(np.float32) for k, v in original.items()}
    for rho in ["1e-5", "1e-4", "1e-3", "0.01", "0.1"]:
        random = np.random.default_rng(7)
        new = {
            k: (v + float(rho) * v.std() * random.standard_normal(v.shape)).astype(np.float32)
            for k, v in rounded.items()
        }
        pair(out, f"seeded-{rho}", rounded, new)


def tokens(vocabulary, texts):
    """Word pieces, longest first."""
    numbers = {word: i for i, word in enumerate(Path(vocabulary).read_text().splitlines())}
    ids = []
    for text in texts:
        for word in re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", Path(text).read_text().lower()):
            start = 0
            while start < len(word):
                prefix = "##" if start else ""
                pieces = (end for end in range(len(word), start, -1) if prefix + word[start:end] in numbers)
                end = next(pieces, None)
                if end is None:
                    break
                ids.append(numbers[prefix + word[start:end]])
                start = end
    return np.array(ids)


def trained(out, original, vocabulary, texts):
    import jax
    import jax.numpy as jnp

    def norm(x, weights, name):
        mean = x.mean(-1, keepdims=True)
        x = (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-12)
        return x * weights[name + ".weight"] + weights[name + ".bias"]

    def linear(x, weights, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def logits(weights, ids):
        x = weights["embeddings.word_embeddings.weight"][ids]
        x += weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x += weights["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, weights, "embeddings.LayerNorm")
        for i in range(6):
            at = f"encoder.layer.{i}."
            heads = lambda x: x.reshape(*x.shape[:2], 12, 32).swapaxes(1, 2)
            q, k, v = (heads(linear(x, weights, at + f"attention.self.{part}")) for part in ("query", "key", "value"))
            scores = jax.nn.softmax(q @ k.swapaxes(2, 3) / 32**0.5)
            mixed = (scores @ v).swapaxes(1, 2).reshape(x.shape)
            mixed = linear(mixed, weights, at + "attention.output.dense")
            x = norm(x + mixed, weights, at + "attention.output.LayerNorm")
            inner = jax.nn.gelu(linear(x, weights, at + "intermediate.dense"), approximate=False)
            x = norm(x + linear(inner, weights, at + "output.dense"), weights, at + "output.LayerNorm")
        return x @ weights["embeddings.word_embeddings.weight"].T

    def loss(weights, ids, wanted, hidden, reward):
        chances = jax.nn.log_softmax(logits(weights, ids))
        of_wanted = jnp.take_along_axis(chances, wanted[..., None], -1)[..., 0]
        return -(of_wanted * hidden * reward[:, None]).sum() / hidden.sum()

    @jax.jit
    def step(weights, first, second, t, rate, ids, wanted, hidden, reward):
        slopes = jax.grad(loss)(weights, ids, wanted, hidden, reward)
        size = jnp.sqrt(sum((g**2).sum() for g in slopes.values()))
        slopes = {k: g / jnp.maximum(1, size) for k, g in slopes.items()}
        first = {k: 0.9 * first[k] + 0.1 * g for k, g in slopes.items()}
        second = {k: 0.999 * second[k] + 0.001 * g**2 for k, g in slopes.items()}
        move = lambda k: (first[k] / (1 - 0.9**t)) / (jnp.sqrt(second[k] / (1 - 0.999**t)) + 1e-8)
        return {k: w - rate * (move(k) + 0.01 * w) for k, w in weights.items()}, first, second

    def run(steps, rate, is_rewarded, each):
        random = np.random.default_rng(1)
        weights = {k: jnp.asarray(v) for k, v in original.items()}
        first = {k: jnp.zeros_like(v) for k, v in weights.items()}
        second = dict(first)
        each(0, weights)
        for t in range(1, steps + 1):
            starts = random.integers(0, len(text) - LENGTH, BATCH)
            wanted = np.stack([text[s : s + LENGTH] for s in starts])
            hidden = (random.random(wanted.shape) < 0.15).astype(np.float32)
            ids = np.where(hidden > 0, MASK, wanted)
            reward = np.ones(BATCH, np.float32)
            if is_rewarded:
                reward = random.standard_normal(BATCH).astype(np.float32)
            weights, first, second = step(
                weights, first, second, float(t), rate, ids, wanted, hidden, reward
            )
            each(t, weights)

    text = tokens(vocabulary, texts)
    kept = {}
    run(100, 2e-5, False, lambda t, weights: kept.update({t: weights}) if t in (0, 100) else None)
    pair(out, "finetune", original, {k: np.asarray(v) for k, v in kept[100].items()})
    before = {}

    def keep(t, weights):
        weights = {k: np.asarray(v) for k, v in weights.items()}
        if t <= 20:
            write(out / f"chain-{t:02}" / "model.safetensors", weights)
        if t == 20:
            before.update(weights)
        if t == 21:
            pair(out, "rl", before, weights)

    run(21, 1e-6, True, keep)


def main():
    original, vocabulary, out, *texts = sys.argv[1:]
    original, out = read(original), Path(out)
    seeded(out, original)
    try:
        import jax  # noqa: F401
    except ImportError:
        print("jax is not installed: no fine-tune, no steps", file=sys.stderr)
        return
    trained(out, original, vocabulary, texts)


if __name__ == "__main__":
    main()
