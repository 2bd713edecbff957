import os
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import df11
import df11.numpy
from df11 import (
    CorruptError,
    DataError,
    Error,
    InvalidInputError,
    IoError,
    UnknownTensorError,
    UnsupportedError,
)


def test_the_tree_of_errors():
    assert issubclass(CorruptError, DataError) and issubclass(DataError, Error)
    assert issubclass(IoError, OSError) and issubclass(UnknownTensorError, KeyError)
    for kind in (DataError, InvalidInputError, UnsupportedError, IoError):
        assert issubclass(kind, Error)


def test_what_is_not_there_is_an_oserror_with_its_file(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(OSError) as caught:
        df11.compress(missing, tmp_path / "out")
    error = caught.value
    assert isinstance(error, IoError) and error.kind == "io"
    assert (error.errno, error.filename, error.path) == (2, str(missing), str(missing))
    assert str(missing) in str(error)


@pytest.mark.parametrize("codec", ["rans", "fast"])
def test_damage_names_file_tensor_and_rule(packed, tmp_path, codec):
    shutil.copytree(packed[codec], tmp_path / "p")
    path = tmp_path / "p" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(CorruptError) as caught:
        df11.numpy.load_file(tmp_path / "p")
    error = caught.value
    assert error.path == str(path) and error.tensor and error.clause.startswith("F-")
    assert error.kind in ("checksum", "corrupt") and error.tensor in str(error)
    with pytest.raises(DataError):
        df11.verify(tmp_path / "p")


def test_damaged_units_name_the_unit(packed, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(packed["df11"], tmp_path / "p")
    path = next(p for p in (tmp_path / "p").glob("*.safetensors") if "layer_0" in p.name)
    tensors = load_file(path)
    key = next(name for name in tensors if name.endswith("luts"))
    tensors[key][0] = 250
    save_file(tensors, path)
    with pytest.raises(CorruptError) as caught:
        df11.numpy.load_file(path)
    assert caught.value.clause.startswith("D-") and caught.value.tensor in key


def test_cut_off_files_are_refused(packed, tmp_path):
    shutil.copytree(packed["rans"], tmp_path / "p")
    path = tmp_path / "p" / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError) as caught:
        df11.safe_open(tmp_path / "p")
    assert str(path) in str(caught.value)


def test_what_cannot_be_meant_is_invalid_input(corpus, packed, tmp_path):
    with pytest.raises(InvalidInputError, match='no codec "zip"'):
        df11.compress(corpus, tmp_path / "p", codec="zip")
    with pytest.raises(InvalidInputError, match="5 lightyears"):
        df11.compress(corpus, tmp_path / "p", max_shard_size="5 lightyears")
    with pytest.raises(UnknownTensorError) as caught:
        df11.safe_open(packed["df11"]).get_tensor("nope")
    assert "nope" in str(caught.value) and not str(caught.value).startswith("'")
    opened = df11.safe_open(packed["df11"], "np")
    with opened:
        pass
    with pytest.raises(InvalidInputError, match="closed"):
        opened.get_tensor(opened.keys()[0])
    with pytest.raises(UnsupportedError, match="tensorflow"):
        df11.safe_open(corpus, "tensorflow")
    with pytest.raises(DataError, match="compressed already"):
        df11.compress(packed["rans"], tmp_path / "twice")


def test_element_types_that_frames_do_not_hold_are_unsupported():
    with pytest.raises(UnsupportedError, match="I64"):
        df11.encode(np.arange(10))
    with pytest.raises(UnsupportedError):
        df11.encode(np.array(["text"]))
    with pytest.raises(CorruptError):
        df11.decode(b"not a frame")
    with pytest.raises(CorruptError):
        df11.decode(df11.encode(np.zeros(1000, np.float32))[:-1])


def test_a_full_disk_is_an_oserror_and_leaves_nothing(corpus, tmp_path):
    code = (
        "import resource, signal, sys, df11\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))\n"
        "try: df11.compress(sys.argv[1], sys.argv[2], codec='rans')\n"
        "except OSError as error: print(type(error).__name__, error.errno, error.filename)\n"
    )
    run = [sys.executable, "-c", code, corpus, tmp_path / "out"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("IoError 27 "), done.stdout
    left = [path for path in tmp_path.rglob("*") if path.suffix == ".safetensors"]
    assert not [path for path in left if not path.name.startswith(".")]


def test_bf16_of_ml_dtypes_is_what_arrays_have(packed):
    array = df11.numpy.load_file(packed["rans"])["embeddings.word_embeddings.weight"]
    assert array.dtype == ml_dtypes.bfloat16
