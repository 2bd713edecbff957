"""Weight sync between two processes: a trainer, and a server that answers with the same weights.

After each step of the optimiser, the trainer sends a delta for every tensor, against the weights
that the server has; every tenth step an anchor, whole tensors that need no base, so that a server
that joins or has missed a step can go on. The server changes its model where it is, answers a
prompt, and returns the digests of its weights and its answer, which the trainer compares with its
own: that every bit is the same. (That is for this example alone.)

    python weight_sync.py [STEPS]        # needs torch and transformers; 50 steps take two minutes

The model is a small Llama with random weights, trained on sentences that are made up; masters are
F32, and what is sent are their BF16 values, as the server computes with them.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
from multiprocessing.connection import Connection

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import df11
import df11.delta

#: Every so many steps, an anchor.
ANCHOR = 10

#: A rate of learning as in reinforcement learning.
RATE = 2e-6

PROMPT = torch.arange(1, 9)[None]

Weights = dict[str, torch.Tensor]


def make_model(dtype: torch.dtype) -> LlamaForCausalLM:
    """Make a model of 4 million weights, with the same start in both processes."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=2000,
    )
    return LlamaForCausalLM(config).to(dtype)


def digests(weights: Weights) -> dict[str, str]:
    """Compute the SHA-256 of the bits of each tensor."""
    bits = {name: weight.detach().view(torch.uint8).numpy() for name, weight in weights.items()}
    return {name: hashlib.sha256(array).hexdigest() for name, array in bits.items()}


def answer(model: LlamaForCausalLM) -> list[int]:
    """Continue the prompt by the most probable tokens."""
    with torch.no_grad():
        tokens = PROMPT
        for _ in range(4):
            best = model(tokens).logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best], 1)
    return tokens[0].tolist()


def serve(trainer: Connection) -> None:
    """Apply what comes in, and answer, until nothing comes."""
    torch.set_num_threads(1)
    model = make_model(torch.bfloat16).eval()
    # Each parameter once, even if modules share it.
    weights = dict(model.named_parameters())
    while (message := trainer.recv()) is not None:
        kind, parts = message
        if kind == "anchor":
            with torch.no_grad():
                for name, frame in parts.items():
                    weights[name].copy_(df11.decode(frame, framework="pt"))
        else:
            df11.delta.apply_all(weights, parts, out=weights)
        trainer.send((digests(weights), answer(model)))


def train(server: Connection, steps: int) -> None:
    """Train, send each step, and compare."""
    torch.set_num_threads(1)
    model = make_model(torch.float32)
    # The weights in the type of the server: those that it must have, and those that it has.
    mirror = make_model(torch.bfloat16).eval()
    sent: Weights = {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count:,} weights: {2 * count:,} bytes a step as BF16")
    total = changes = deltas = 0
    for step in range(steps):
        tokens = torch.randint(2000, (4, 32))
        tokens[:, 1::2] = tokens[:, ::2]  # Each token twice: something to learn.
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        new = {name: w.detach().to(torch.bfloat16) for name, w in model.named_parameters()}
        is_anchor = step % ANCHOR == 0
        if is_anchor:
            parts = {name: df11.encode(weight) for name, weight in new.items()}
        else:
            parts = df11.delta.encode_all(new, sent)
        server.send(("anchor" if is_anchor else "deltas", parts))
        mirror.load_state_dict(new)
        theirs, said = server.recv()
        assert theirs == digests(new), f"step {step}: the server has other weights"
        assert said == answer(mirror), f"step {step}: the server answers otherwise"
        size = sum(map(len, parts.values()))
        if is_anchor:
            print(f"step {step:2}: anchor {size:9,} bytes ({50 * size / count:.2f} %)")
        else:
            changed = sum(df11.delta.describe(part).changed for part in parts.values())
            total, changes, deltas = total + size, changes + changed, deltas + 1
            print(
                f"step {step:2}: deltas {size:9,} bytes ({50 * size / count:.2f} %), {changed:,} "
                f"changes; 6 bytes a change: {6 * changed:,}"
            )
        sent = new
    server.send(None)
    print(f"{steps} steps: the server had the same bits, and said the same, after each")
    if deltas:
        print(
            f"a step, on average: {total // deltas:,} bytes as deltas, {2 * count:,} as BF16, "
            f"{6 * changes // deltas:,} as 6 bytes a change"
        )


def main() -> None:
    """Start the server, and train."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    server = processes.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()
    train(ours, steps)
    server.join()
    assert server.exitcode == 0


if __name__ == "__main__":
    main()
