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


def test_loads_do_not_leak(packed):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        df11.numpy.load_file(packed["rans"])
    before = resident()
    for _ in range(40):
        df11.numpy.load_file(packed["rans"])
    # One leaked load is 45 MB.
    assert resident() - before < 20e6
