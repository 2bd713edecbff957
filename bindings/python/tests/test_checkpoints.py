import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import df11
import df11.numpy


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("codec", ["df11", "rans", "fast", "auto", None])
def test_what_is_compressed_comes_back_byte_for_byte(corpus, tmp_path, codec):
    report = df11.compress(corpus, tmp_path / "packed", codec=codec, threads=1)
    assert 0.6 < report.ratio < 0.7 and not report.nothing_to_gain
    # With `auto`, frames were the smaller ones for all of this model.
    assert bool(report.units) == (codec in ("df11", None))
    checked = df11.verify(tmp_path / "packed", against=corpus)
    assert checked.compared == len(df11.safe_open(corpus))
    seen = df11.inspect(tmp_path / "packed")
    assert seen.compressed and len(seen.units) == len(report.units)
    back = df11.decompress(tmp_path / "packed", tmp_path / "back")
    assert back.original_restored
    assert digest(tmp_path / "back" / "model.safetensors") == digest(corpus)


def test_progress_is_told_in_order_and_reaches_the_end(corpus, tmp_path):
    told = []
    df11.compress(corpus, tmp_path / "packed", progress=lambda *facts: told.append(facts))
    tasks = list(dict.fromkeys(task for task, _, _ in told))
    assert tasks and set(tasks) <= {"reading", "compressing"}
    task, done, total = told[-1]
    assert (task, done) == ("compressing", total)
    assert all(0 <= done <= total for _, done, total in told)
    df11.verify(tmp_path / "packed", progress=True)


def test_what_a_callback_raises_stops_the_operation(corpus, tmp_path):
    def stop(task, done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        df11.compress(corpus, tmp_path / "packed", progress=stop)
    assert not (tmp_path / "packed" / "df11.json").exists()


def test_ctrl_c_stops_and_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for shard in range(4):
        matrix = rng.standard_normal((6000, 6000), np.float32).astype(df11_bf16())
        df11_plain(tmp_path / f"model-{shard}.safetensors", {f"layers.{shard}.w.weight": matrix})
    # Shells start what runs in the background with SIGINT ignored.
    code = (
        "import df11, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " df11.compress(sys.argv[1], sys.argv[2], codec='rans', threads=1,"
        " progress=lambda *_: print('at work', flush=True))"
    )
    out = tmp_path / "out" / "packed"
    out.parent.mkdir()
    arguments = [sys.executable, "-c", code, tmp_path, out]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline() == b"at work\n"
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=60)
    assert b"KeyboardInterrupt" in error and running.returncode != 0
    assert not (out / "df11.json").exists()


def df11_bf16():
    import ml_dtypes

    return ml_dtypes.bfloat16


def df11_plain(path, tensors):
    import torch
    from safetensors.torch import save_file

    made = {k: torch.from_numpy(v.view(np.uint16)).view(torch.bfloat16) for k, v in tensors.items()}
    save_file(made, path)


def test_shards_and_companions_come_along(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "model").mkdir()
    for shard in range(3):
        matrix = rng.standard_normal((500, 500), np.float32).astype(df11_bf16())
        name = f"model-0000{shard + 1}-of-00003.safetensors"
        df11_plain(tmp_path / "model" / name, {f"layers.{shard}.up.weight": matrix})
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    report = df11.compress(
        tmp_path / "model", tmp_path / "packed", codec="rans", max_shard_size="300KB"
    )
    assert len(report.frames) == 3
    assert (tmp_path / "packed" / "tokenizer.json").read_text() == "{}"
    assert set(df11.numpy.load_file(tmp_path / "packed")) == {
        f"layers.{i}.up.weight" for i in "012"
    }


def test_own_dictionaries_decide_on_units(corpus, tmp_path):
    dictionary = {r"encoder\.layer\.[0-2]": ["intermediate.dense", "output.dense"]}
    report = df11.compress(corpus, tmp_path / "p", codec="df11", pattern_dict=dictionary)
    assert [unit.path for unit in report.units] == [f"encoder.layer.{i}" for i in range(3)]
    assert all(unit.tensors == 2 for unit in report.units)


def test_one_file_in_one_file_out(corpus, tmp_path):
    df11.compress(corpus, tmp_path / "one.safetensors")
    with pytest.raises(df11.Error):
        df11.compress(corpus, tmp_path / "one.safetensors")
    df11.compress(corpus, tmp_path / "one.safetensors", force=True, codec="rans")
    df11.decompress(tmp_path / "one.safetensors", tmp_path / "back.safetensors")
    assert digest(tmp_path / "back.safetensors") == digest(corpus)


def command(*arguments):
    run = [sys.executable, "-m", "df11", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


def test_the_command_does_what_the_functions_do(corpus, tmp_path):
    done = command("compress", corpus, "-o", tmp_path / "p", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["bytes_before"] == corpus.stat().st_size
    assert "every rule kept" in command("verify", tmp_path / "p", "--against", corpus).stdout
    assert "weights" in command("inspect", tmp_path / "p").stdout
    assert command("decompress", tmp_path / "p", "-o", tmp_path / "b", "-q").stdout == ""
    assert digest(tmp_path / "b" / "model.safetensors") == digest(corpus)
    assert command("verify", tmp_path / "nothing").returncode == 3
    assert command("compress", corpus, "-o", tmp_path).returncode in (1, 2)
    assert command("compress", corpus).returncode == 2
    broken = bytearray((tmp_path / "p" / "df11.json").read_bytes())
    broken[len(broken) // 2] ^= 1
    (tmp_path / "p" / "df11.json").write_bytes(broken)
    failed = command("verify", tmp_path / "p", "--json")
    assert failed.returncode == 1 and json.loads(failed.stdout)["kind"] == "data"


PURPOSES = {
    "size": ("auto", None),
    "speed": ("fast", None),
    "gpu": ("fast", None),
    "loader": ("df11", None),
}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_purpose_is_as_the_command_has_it(corpus, tmp_path, purpose):
    report = df11.compress(corpus, tmp_path / "function", purpose=purpose)
    assert report.codec == PURPOSES[purpose][0]
    run = ("compress", corpus, "-o", tmp_path / "command", "--for", purpose)
    assert command(*run).returncode == 0
    assert same_files(tmp_path / "function", tmp_path / "command")


def test_a_codec_or_a_block_length_goes_before_that_of_the_purpose(corpus, tmp_path):
    sizes = {}
    for length in (None, 4096, 65536):
        path = tmp_path / str(length)
        report = df11.compress(corpus, path, purpose="gpu", codec="rans", block_len=length)
        assert report.codec == "rans"
        sizes[length] = report.bytes_after
    assert sizes[65536] < sizes[None] < sizes[4096]
    run = ("compress", corpus, "-o", tmp_path / "c", "--codec", "rans", "--block-len", 4096)
    assert command(*run).returncode == 0
    assert same_files(tmp_path / "4096", tmp_path / "c")


def test_wrong_purposes_and_block_lengths_are_refused(corpus, tmp_path):
    with pytest.raises(df11.InvalidInputError, match='no purpose "fun", but'):
        df11.compress(corpus, tmp_path / "p", purpose="fun")
    for codec, length in [("rans", 4095), ("rans", 4097), ("rans", 1 << 17), ("fast", 4160)]:
        with pytest.raises(df11.InvalidInputError, match=f"blocks cannot have {length} elements"):
            df11.compress(corpus, tmp_path / "p", codec=codec, block_len=length)
    assert not (tmp_path / "p").exists()


def same_files(one, other):
    names = sorted(path.name for path in one.iterdir())
    same = names == sorted(path.name for path in other.iterdir())
    return same and all(digest(one / name) == digest(other / name) for name in names)


@pytest.fixture
def step(corpus, tmp_path):
    """The real weights a step of training later."""
    tensors = df11.numpy.load_file(corpus)
    rng = np.random.default_rng(0)
    for tensor in tensors.values():
        if tensor.dtype == df11_bf16():
            tensor.view(np.uint16)[...] += rng.random(tensor.shape) < 0.01
    df11_plain(tmp_path / "step.safetensors", tensors)
    return tmp_path / "step.safetensors"


@pytest.mark.parametrize("form", ["plain", "df11", "rans", "fast"])
def test_a_checkpoint_against_its_base_comes_back(packed, step, tmp_path, form):
    base = packed[form]
    report = df11.compress(step, tmp_path / "delta", base=base)
    assert report.ratio < 0.02
    assert df11.verify(tmp_path / "delta", against=step, base=[base]).compared
    # Without the base, its checksums.
    assert df11.verify(tmp_path / "delta").frames
    back = df11.decompress(tmp_path / "delta", tmp_path / "back", base=str(base))
    assert back.original_restored
    assert digest(tmp_path / "back" / "step.safetensors") == digest(step)
    seen = df11.inspect(tmp_path / "delta").deltas
    assert 0 < sum(one.changed for one in seen) < 0.02 * sum(one.elements for one in seen)
    assert {one.depth for one in seen} == {1}


def test_another_base_and_none_are_refused_with_the_names_and_digests(packed, step, tmp_path):
    df11.compress(step, tmp_path / "delta", base=packed["plain"])
    df11.compress(step, tmp_path / "other", codec="rans")
    wanted = df11.inspect(tmp_path / "delta").deltas[0]
    for base in ((), tmp_path / "other"):
        with pytest.raises(df11.DataError) as caught:
            df11.decompress(tmp_path / "delta", tmp_path / "back", base=base)
        told = str(caught.value)
        assert caught.value.tensor in told and "SHA-256" in told
        assert any(one.base_sha256 in told for one in df11.inspect(tmp_path / "delta").deltas)
        assert not (tmp_path / "back" / "step.safetensors").exists()
    assert len(wanted.base_sha256) == 64
    with pytest.raises(df11.DataError, match="delta against"):
        df11.numpy.load_file(tmp_path / "delta")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("codec", ["df11", "rans", "fast"])
def test_10_000_loads_leak_neither_memory_nor_files(tmp_path, codec):
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 0.02, (64, 512)).astype(df11_bf16())
    path = tmp_path / "small.safetensors"
    df11.numpy.save_file({"layers.0.up_proj.weight": matrix}, path, codec=codec)

    def load(times):
        for _ in range(times):
            found = df11.numpy.load_file(path)["layers.0.up_proj.weight"]
        assert found.tobytes() == matrix.tobytes()

    load(500)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    load(10_000)
    # One leaked load of each is 655 MB.
    assert resident() - before < 8e6
    assert len(os.listdir("/proc/self/fd")) == files


def test_loads_do_not_leak(packed):
    for _ in range(3):
        df11.numpy.load_file(packed["rans"])
    before = resident()
    for _ in range(40):
        df11.numpy.load_file(packed["rans"])
    # One leaked load is 45 MB.
    assert resident() - before < 20e6
