#!/usr/bin/env python3
"""Runs models whose weights stay compressed on a card, beside the same models with plain weights.

attach.py [--device cuda:0] [--blocks N] [--codecs df11,fast,rans] [--seconds S] [--scratch DIR]
          [--json FILE] [--repetitions N] [--tiny]

--device       the card, or `emulated`, where shapes are tiny
--blocks       transformer blocks (4) with the shapes of Llama-3.1-8B; codecs after the first have
               at most --later-blocks (2)
--codecs       in this order
--seconds      stop beginning new ways after so long
--scratch      where checkpoints are written: 450 MB a block, and 520 MB for the table and the head
--json         a file to which the rows are appended, as one line
--tiny         tiny shapes on a card as well

A row is one way to run the model: `plain`, or attached with a codec, linear= and prefetch=. Each is
compared with the plain model: logits for 12, 4 and 1 tokens, and the tokens that `generate` finds.
Decoded weights must give the same bits. Fused products add in another order, and must be close.

Times are medians for one token without a cache, by events (card), and the time until Python has
asked for everything (host): where both are alike, the card waits for Python. `layers` leaves the
table of embeddings out, which a forward decodes whole. Graphs show what the card alone takes.
"""

import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import traceback

STARTED = time.perf_counter()  # the libraries take seconds to load

import torch
import transformers
from safetensors.torch import save_model
from transformers import LlamaConfig, LlamaForCausalLM

import df11
import df11.torch

WAYS = [(linear, prefetch) for prefetch in (0, 1) for linear in ("decode", "fused", "auto")]
#: Tokens that are given at a time. Fused layers take at most 8.
GIVEN = (12, 4, 1)
#: What two ways of adding may differ by, of the largest logit.
CLOSE = 0.05
#: What may stay on the card when a module is gone: kernels, and the workspaces of libraries.
LEFT_BEHIND = 128 << 20
MB = 1e6


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


DEVICE = option("--device", "cuda:0")
IS_CARD = DEVICE != "emulated"
TINY = "--tiny" in sys.argv or not IS_CARD
HOME = torch.device(DEVICE if IS_CARD else "cpu")
LIMIT = float(option("--seconds", 1e9))
REPETITIONS = int(option("--repetitions", 2 if TINY else 20))
NEW_TOKENS = 4 if TINY else 16
ROWS = []


def has_time():
    return time.perf_counter() - STARTED < LIMIT


def say(text):
    print(f"[{time.perf_counter() - STARTED:5.1f} s] {text}", flush=True)


# Models.


def config_of(blocks):
    full = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
            "head_dim": 128, "vocab_size": 32000}
    tiny = {"hidden_size": 128, "intermediate_size": 320, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "vocab_size": 256}
    return LlamaConfig(**(tiny if TINY else full), num_hidden_layers=blocks, dtype=torch.bfloat16, rope_theta=500000.0,
                       tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=0)


@contextlib.contextmanager
def by_default(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def empty_model(config):
    """The model on the meta device, but for what is in no checkpoint."""
    with torch.device("meta"), by_default(torch.bfloat16):
        model = LlamaForCausalLM(config).eval()
    with HOME:
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


@torch.no_grad()
def plain_model(config):
    """The model with weights as trained ones are: each row is normal, with a scale of its own."""
    model = empty_model(config)
    generator = torch.Generator(HOME).manual_seed(1)
    for owner in model.modules():
        for key, parameter in [*owner.named_parameters(recurse=False)]:
            shape = parameter.shape
            if len(shape) == 1:
                content = torch.ones(shape, device=HOME)
            else:
                scale = torch.randn(shape[0], 1, generator=generator, device=HOME).mul(0.3).sub(4.0).exp()
                content = torch.randn(shape, generator=generator, device=HOME) * scale
            owner._parameters[key] = torch.nn.Parameter(content.to(torch.bfloat16), requires_grad=False)
    return model


# What is asked of each.


def synchronize():
    if IS_CARD:
        torch.cuda.synchronize(HOME)


def tokens(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (1, number), generator=generator).to(HOME)


@torch.no_grad()
def answers(model):
    """Logits for some numbers of tokens, and the tokens that follow a prompt."""
    logits = {number: model(input_ids=tokens(number), use_cache=False).logits.float().cpu() for number in GIVEN}
    prompt = tokens(GIVEN[0])
    found = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW_TOKENS)
    return logits, found[0, GIVEN[0]:].tolist()


def median_ms(work):
    """Milliseconds of the card, and those until Python has asked for all of it."""
    card, host = [], []
    for _ in range(3 if IS_CARD else 0):
        work()
    for _ in range(REPETITIONS):
        synchronize()
        began = time.perf_counter()
        if not IS_CARD:
            work()
            card.append(1e3 * (time.perf_counter() - began))
            host.append(card[-1])
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        host.append(1e3 * (time.perf_counter() - began))
        end.synchronize()
        card.append(start.elapsed_time(end))
    return statistics.median(card), statistics.median(host)


@torch.no_grad()
def times(model):
    ids = tokens(1)
    embedded = torch.randn(1, 1, model.config.hidden_size, device=HOME).to(torch.bfloat16)
    row = {}
    row["token_ms"], row["token_host_ms"] = median_ms(lambda: model(input_ids=ids, use_cache=False))
    row["layers_ms"], row["layers_host_ms"] = median_ms(lambda: model(inputs_embeds=embedded, use_cache=False))
    return row


def add_graph(row, model):
    """Time a captured forward, without the table: what the card takes when nobody waits for Python."""
    if not IS_CARD or any("no_graph" in other for other in ROWS):
        return
    embedded = torch.randn(1, 1, model.config.hidden_size, device=HOME).to(torch.bfloat16)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(HOME)
    stream.wait_stream(torch.cuda.current_stream(HOME))
    try:
        # A capture must not wait for what another stream did before, so the first forward is on the same one.
        with torch.no_grad(), torch.cuda.stream(stream):
            expected = model(inputs_embeds=embedded, use_cache=False).logits
        synchronize()
        with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
            found = model(inputs_embeds=embedded, use_cache=False).logits
        row["graph_ms"] = median_ms(graph.replay)[0]
        row["graph_same_bits"] = torch.equal(found, expected)
    except Exception as error:
        row["no_graph"] = f"no graph: {type(error).__name__}: {error}"[:300]
    synchronize()


def memory():
    """Bytes of the card that are free, once PyTorch has given back what it does not use."""
    gc.collect()
    if not IS_CARD:
        return df11._df11.GpuDevice("emulated").free_bytes()
    synchronize()
    getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(HOME)[0]


# Rows.


def compare(row, found, expected, is_exact):
    """Compare answers with those of the plain model. For 12 tokens, all ways decode."""
    (logits, chosen), (wanted, right) = found, expected
    row["same_bits"] = {number: torch.equal(logits[number], wanted[number]) for number in GIVEN}
    differences = [float((logits[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in GIVEN]
    row["largest_difference"] = max(differences)
    row["same_next_token"] = all(torch.equal(logits[n].argmax(-1), wanted[n].argmax(-1)) for n in GIVEN)
    row["tokens"], row["same_tokens"] = len(right), sum(a == b for a, b in zip(chosen, right))
    row["right"] = row["same_bits"][GIVEN[0]] and (
        all(row["same_bits"].values()) and chosen == right if is_exact else row["largest_difference"] < CLOSE)


def run_way(path, config, codec, linear, prefetch, plain):
    row = {"codec": codec, "linear": linear, "prefetch": prefetch, "blocks": config.num_hidden_layers}
    ROWS.append(row)
    before = memory()
    model = empty_model(config)
    began = time.perf_counter()
    attached = df11.torch.attach(model, path, device=DEVICE, linear=linear, prefetch=prefetch)
    synchronize()
    row["attach_seconds"] = time.perf_counter() - began
    row["taken_when_attached"] = before - memory()
    compare(row, answers(model), plain["answers"], linear == "decode")
    row |= times(model)
    attached.check()
    row |= {"device_bytes": attached.device_bytes, "buffer_bytes": attached.peak_buffer_bytes,
            "stored_bytes": attached.stored_bytes, "taken_after_forwards": before - memory()}
    row["choices"] = [f"{len(layers)} layers, {layers[0][:2]} first, x{vectors}: {way}"
                      for (layers, vectors), way in attached.choices.items()]
    if linear == "fused":
        add_graph(row, model)
        row["right"] &= row.get("graph_same_bits", True)
    if prefetch == 0:
        # Half of the ways end by being made plain models, the others by being dropped.
        attached.detach()
        with torch.no_grad():
            logits = model(input_ids=tokens(GIVEN[0]), use_cache=False).logits.float().cpu()
        row["right"] &= torch.equal(logits, plain["answers"][0][GIVEN[0]])
        row["taken_when_detached"] = before - memory()
    del model, attached
    row["taken_when_dropped"] = before - memory()
    row["gives_back"] = row["taken_when_dropped"] <= LEFT_BEHIND
    for key in ("token_ms", "layers_ms", "graph_ms"):
        if row.get(key) and plain["row"].get(key):
            row[key.replace("_ms", "_ratio")] = row[key] / plain["row"][key]
    show(row, plain["row"])


def show(row, plain):
    size = lambda key: f"{row[key] / MB:,.1f}"
    told = "right" if row["right"] and row["gives_back"] else "WRONG"
    bits = "same bits" if all(row["same_bits"].values()) else f"off by {row['largest_difference']:.1e} of the largest"
    say(f"{row['codec']}, {row['linear']}, prefetch {row['prefetch']}, {row['blocks']} blocks: {told}: {bits}, "
        f"{row['same_tokens']} of {row['tokens']} tokens the same; attached in {row['attach_seconds']:.1f} s")
    graph = f"; as a graph {row['graph_ms']:.3f} ({row['graph_ratio']:.2f})" if row.get("graph_ratio") else ""
    print(f"    a token {row['token_ms']:.3f} ms ({row['token_ratio']:.2f} of plain), host {row['token_host_ms']:.3f}; "
          f"layers {row['layers_ms']:.3f} ({row['layers_ratio']:.2f}), host {row['layers_host_ms']:.3f}{graph}")
    detached = f", detached {size('taken_when_detached')}" if "taken_when_detached" in row else ""
    print(f"    MB: plain {plain['bytes'] / MB:,.1f}, device_bytes {size('device_bytes')}, buffers {size('buffer_bytes')}; "
          f"taken when attached {size('taken_when_attached')}, after forwards {size('taken_after_forwards')}{detached}, "
          f"dropped {size('taken_when_dropped')}")
    for line in row["choices"] + ([row["no_graph"]] if "no_graph" in row else []):
        print(f"    {line}")


def run_plain(config, path):
    """Answers, times and the checkpoint of the plain model, which is gone afterwards."""
    model = plain_model(config)
    save_model(model, path)
    row = {"codec": "plain", "blocks": config.num_hidden_layers}
    row["bytes"] = sum(parameter.nbytes for parameter in model.parameters())
    found = answers(model)
    row |= times(model)
    add_graph(row, model)
    ROWS.append(row)
    say(f"plain, {row['blocks']} blocks, {row['bytes'] / MB:,.1f} MB: a token {row['token_ms']:.3f} ms, host "
        f"{row['token_host_ms']:.3f}; layers {row['layers_ms']:.3f}, host {row['layers_host_ms']:.3f}; as a graph "
        f"{row.get('graph_ms') or row.get('no_graph', 'not tried')}")
    return {"answers": found, "row": row}


def run(folder):
    blocks = int(option("--blocks", 2 if TINY else 4))
    plains = {}
    for place, codec in enumerate(option("--codecs", "df11,fast,rans").split(",")):
        if not has_time():
            say(f"{codec}: not begun, no time left")
            continue
        config = config_of(blocks if place == 0 else min(blocks, int(option("--later-blocks", 2))))
        number = config.num_hidden_layers
        whole = os.path.join(folder, f"{number}.safetensors")
        if number not in plains:
            plains[number] = run_plain(config, whole)
        path, began = os.path.join(folder, "compressed.safetensors"), time.perf_counter()
        if os.path.exists(path):
            os.remove(path)
        df11.compress(whole, path, codec=codec, purpose="gpu")
        plain = plains[number]["row"]["bytes"]
        say(f"{codec}: {os.path.getsize(path) / plain:.4f} of {plain / MB:,.1f} MB in {time.perf_counter() - began:.1f} s")
        # A way that fails must not take the others with it.
        for linear, prefetch in WAYS if codec != "rans" else WAYS[::3]:
            if not has_time():
                say(f"{codec}, {linear}, prefetch {prefetch}: not begun, no time left")
                continue
            try:
                run_way(path, config, codec, linear, prefetch, plains[number])
            except Exception as error:
                ROWS[-1]["error"] = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc(limit=-6)
                say(f"{codec}, {linear}, prefetch {prefetch}: WRONG: {ROWS[-1]['error']}")


def save():
    card = torch.cuda.get_device_name(HOME) if IS_CARD else "emulated"
    if option("--json"):
        with open(option("--json"), "a") as out:
            told = {"card": card, "torch": torch.__version__, "transformers": transformers.__version__}
            out.write(json.dumps(told | {"arguments": sys.argv[1:], "rows": ROWS}) + "\n")


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(__doc__)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(dir=option("--scratch")) as folder:
        try:
            run(folder)
        finally:
            save()
    ways = [row for row in ROWS if row["codec"] != "plain"]
    bad = [row for row in ways if "error" in row or not row["right"] or not row["gives_back"]]
    say(f"{len(ways)} ways, {len(bad)} wrong")
    sys.exit(1 if bad or not ways else 0)
