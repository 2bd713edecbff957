import hashlib
import json
import random
import threading

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

import df11
import df11.numpy
import df11.torch

CODECS = ["plain", "df11", "rans", "fast", "auto"]


BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same(a, b):
    """Whether two tensors have the same type, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not a.is_complex():
        a, b = (x.view(BITS[x.element_size()]) for x in (a, b))
    return torch.equal(a, b)


@pytest.mark.parametrize("codec", CODECS)
def test_tensors_are_those_of_safetensors(packed, codec):
    expected = safetensors.torch.load_file(packed["plain"])
    for threads in (1, 2, 8):
        found = df11.torch.load_file(packed[codec], threads=threads)
        assert set(found) == set(expected)
        assert all(same(found[name], expected[name]) for name in expected)
    arrays = df11.numpy.load_file(packed[codec])
    for name, array in arrays.items():
        is_bf16 = array.dtype == ml_dtypes.bfloat16
        as_torch = torch.from_numpy(array.view(np.uint16) if is_bf16 else array)
        assert same(as_torch.view(torch.bfloat16) if is_bf16 else as_torch, expected[name])


@pytest.mark.parametrize("codec", CODECS)
def test_safe_open_has_the_face_of_safetensors(packed, codec):
    with (
        df11.safe_open(packed[codec], framework="pt", device="cpu") as opened,
        safetensors.safe_open(packed["plain"], framework="pt") as plain,
    ):
        assert sorted(opened.keys()) == sorted(plain.keys())
        assert sorted(opened.offset_keys()) == sorted(plain.keys())
        assert opened.metadata() == plain.metadata()
        name = opened.keys()[5]
        assert same(opened.get_tensor(name), plain.get_tensor(name))
        assert set(opened.get_tensors()) == set(plain.keys())
        ours, theirs = opened.get_slice(name), plain.get_slice(name)
        assert (ours.get_shape(), ours.get_dtype()) == (theirs.get_shape(), theirs.get_dtype())


def outcome(tensor, index):
    try:
        return tensor[index]
    except (IndexError, ValueError, TypeError) as error:
        return IndexError if isinstance(error, IndexError) else type(error)


def random_index(rng, shape):
    entries = []
    for size in shape[: rng.randint(0, len(shape))]:
        kind = rng.randrange(6)
        if kind == 0:
            entries.append(rng.randint(-size - 1, size))
        elif kind == 1:
            entries.append(slice(None))
        elif kind == 2:
            entries.append(slice(rng.randint(-size, size), rng.randint(-2 * size, 2 * size)))
        elif kind == 3:
            entries.append(slice(None, None, rng.choice([1, 2, 7, size + 1, 0, -1])))
        elif kind == 4:
            entries.append(slice(rng.randint(0, size), None, rng.choice([1, 3])))
        else:
            entries += [None, rng.randrange(size)]
    if rng.random() < 0.3:
        entries.insert(rng.randint(0, len(entries)), ...)
    if rng.random() < 0.1:
        entries.insert(rng.randint(0, len(entries)), ...)
    if rng.random() < 0.2:
        entries.insert(0, None)
    return entries[0] if len(entries) == 1 and rng.random() < 0.5 else tuple(entries)


@pytest.mark.parametrize("codec", CODECS)
def test_slices_are_indexed_as_tensors_are(tmp_path, codec):
    torch.manual_seed(0)
    tensors = {
        "layers.0.a.weight": torch.randn(37, 64, 50).to(torch.bfloat16),
        "layers.0.b.weight": torch.randn(300, 400).to(torch.bfloat16),
        "c": torch.randn(5).to(torch.bfloat16),
    }
    path = tmp_path / "p.safetensors"
    if codec == "plain":
        safetensors.torch.save_file(tensors, path)
    else:
        df11.torch.save_file(tensors, path, codec=codec)
    rng, tried = random.Random(1), 0
    with df11.safe_open(path) as opened:
        for name, tensor in tensors.items():
            for _ in range(100):
                index = random_index(rng, tensor.shape)
                expected, found = outcome(tensor, index), outcome(opened.get_slice(name), index)
                if isinstance(expected, torch.Tensor):
                    assert isinstance(found, torch.Tensor), (index, found)
                    assert same(found, expected), index
                    tried += 1
                else:
                    # Where an index is wrong in two ways, either may be named.
                    assert found in (IndexError, ValueError, TypeError), (index, found, expected)
        # Rows that are listed, and whatever else an index may be.
        slice_ = opened.get_slice("layers.0.b.weight")
        tensor = tensors["layers.0.b.weight"]
        mask = torch.arange(300) % 7 == 0
        for index in (
            [3, 1, 1, -1],
            torch.tensor([5, 250]),
            mask,
            (mask, 3),
            np.int64(4),
            ([1], [2]),
        ):
            assert same(slice_[index], tensor[index]), index
        with pytest.raises(IndexError):
            slice_[[300]]
    assert tried > 150


@pytest.mark.parametrize("codec", ["df11", "rans", "fast", "auto", None])
def test_what_is_saved_is_loaded_again(tmp_path, codec):
    torch.manual_seed(0)
    tensors = {
        "layers.0.q.weight": torch.randn(200, 300).to(torch.bfloat16),
        "half": torch.randn(50, 60).half(),
        "single": torch.randn(70, 80),
        "double": torch.randn(3, 3).double(),
        "small": torch.randn(4, 4).to(torch.float8_e4m3fn),
        "small2": torch.randn(400, 400).to(torch.float8_e5m2),
        "ids": torch.arange(5000),
        "mask": torch.arange(9) % 2 == 0,
        "complex": torch.randn(3, dtype=torch.complex64),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(3.5),
    }
    path = tmp_path / "any name"
    df11.torch.save_file(tensors, path, {"format": "pt", "who": "me"}, codec=codec)
    found = df11.torch.load_file(path)
    assert set(found) == set(tensors)
    assert all(same(found[name], tensors[name]) for name in tensors)
    assert df11.safe_open(path).metadata() == {"format": "pt", "who": "me"}
    data = df11.torch.save(tensors, codec=codec)
    assert all(same(tensor, tensors[name]) for name, tensor in df11.torch.load(data).items())


def test_numpy_arrays_come_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((100, 200)).astype(ml_dtypes.bfloat16),
        "b": rng.standard_normal((100, 200)).astype("<f4"),
        "c": rng.standard_normal((10, 20)).astype(">f4"),
        "d": np.arange(1000, dtype=np.int16)[::2],
        "e": rng.standard_normal((100, 20)).astype(ml_dtypes.float8_e4m3fn).T,
        "f": np.array(True),
        "g": np.zeros((0, 3), np.uint64),
    }
    df11.numpy.save_file(arrays, tmp_path / "a.safetensors", codec="rans")
    found = df11.numpy.load_file(tmp_path / "a.safetensors")
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert (found[name].astype(np.float64) == array.astype(np.float64)).all(), name
    data = df11.numpy.save(arrays)
    assert set(df11.numpy.load(data)) == set(arrays)


@pytest.mark.parametrize("codec", ["rans", "fast"])
def test_single_arrays_are_frames(codec):
    rng = np.random.default_rng(0)
    for shape in [(), (0,), (7,), (300, 1000), (3, 0, 2), (2000, 2000)]:
        for dtype in (np.float32, np.float16, np.uint8, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
            array = np.asarray(rng.standard_normal(shape) * 3).astype(dtype)
            found = df11.decode(df11.encode(array, codec=codec))
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()
    tensor = torch.randn(100, 100).to(torch.bfloat16).T
    assert same(df11.decode(memoryview(df11.encode(tensor)), framework="pt"), tensor.contiguous())


def test_models_are_saved_and_loaded_with_shared_weights(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(100, 200, dtype=torch.bfloat16)
            self.b = torch.nn.Linear(100, 200, dtype=torch.bfloat16)
            self.b.weight = self.a.weight

    torch.manual_seed(0)
    model = Tied()
    df11.torch.save_model(model, tmp_path / "m.safetensors", codec="rans")
    other = Tied()
    assert df11.torch.load_model(other, tmp_path / "m.safetensors") == ([], [])
    assert all(same(x, y) for x, y in zip(model.parameters(), other.parameters(), strict=True))
    wrong = torch.nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="Missing"):
        df11.torch.load_model(wrong, tmp_path / "m.safetensors")
    missing, unexpected = df11.torch.load_model(wrong, tmp_path / "m.safetensors", strict=False)
    assert missing == ["bias", "weight"] and "a.bias" in unexpected


def test_published_files_are_read(fixtures):
    names = [path.name.split(".")[0] for path in fixtures.glob("*.df11.safetensors")]
    assert len(names) >= 6
    manifest = json.loads((fixtures / "manifest.json").read_text())["cases"]
    for name in names:
        path = fixtures / f"{name}.df11.safetensors"
        found = df11.torch.load_file(path)
        with df11.safe_open(path) as opened:
            flat = torch.cat([found[key].flatten() for key in opened.offset_keys()])
        assert flat.numel() == manifest[name]["elements"]
        # Tensors of a unit are stored in order, and a fixture holds one unit.
        bits = hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        assert bits == manifest[name]["sha256_bf16"], name


def test_eight_threads_read_at_once(packed):
    expected = safetensors.torch.load_file(packed["plain"])
    for codec in ("df11", "rans", "fast"):
        opened, wrong = df11.safe_open(packed[codec], threads=2), []

        def work(seed, opened=opened, wrong=wrong):
            names = list(expected)
            random.Random(seed).shuffle(names)
            for name in names:
                if not same(opened.get_tensor(name), expected[name]):
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


class Rows(torch.utils.data.Dataset):
    def __init__(self, path):
        self.opened = df11.safe_open(path)
        # Threads of this process, which its children do not have.
        self.opened.get_tensors()

    def __len__(self):
        return 64

    def __getitem__(self, row):
        whole = self.opened.get_tensor("embeddings.word_embeddings.weight")
        return whole[row]


@pytest.mark.parametrize("codec", ["df11", "rans"])
def test_forked_workers_of_a_data_loader_read(packed, codec):
    rows = Rows(packed[codec])
    loader = torch.utils.data.DataLoader(
        rows, batch_size=8, num_workers=2, multiprocessing_context="fork"
    )
    found = torch.cat(list(loader))
    name = "embeddings.word_embeddings.weight"
    assert same(found, safetensors.torch.load_file(packed["plain"])[name][:64])


def test_what_is_saved_takes_the_options_of_compress(tmp_path):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, (300, 500)).astype(ml_dtypes.bfloat16)
    tensors = {"w": torch.from_numpy(weights.view(np.uint16)).view(torch.bfloat16)}
    sizes = []
    for options in ({"purpose": "gpu", "codec": "rans"}, {"codec": "rans"}, {"block_len": 4096}):
        made = df11.torch.save(tensors, **({"codec": "rans"} | options))
        assert torch.equal(df11.torch.load(made)["w"], tensors["w"])
        df11.numpy.save_file({"w": weights}, tmp_path / "w.safetensors", threads=1, **options)
        assert df11.numpy.load_file(tmp_path / "w.safetensors")["w"].tobytes() == weights.tobytes()
        sizes.append(len(made))
    assert sizes[1] < sizes[0] < sizes[2]
    with pytest.raises(TypeError, match="no argument 'single_file'"):
        df11.torch.save(tensors, single_file=True)
    with pytest.raises(df11.InvalidInputError, match="no purpose"):
        df11.torch.save(tensors, purpose="fun")
