"""What must work where nothing but the wheel and what it depends on is installed."""

import importlib.util
import os
import tempfile

import ml_dtypes
import numpy as np

import df11
import df11.numpy

assert importlib.util.find_spec("torch") is None, "this is to run without PyTorch"
rng = np.random.default_rng(0)
weights = {"layers.0.w.weight": rng.standard_normal((500, 500)).astype(ml_dtypes.bfloat16)}
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.safetensors")
    df11.numpy.save_file(weights, path)
    found = df11.numpy.load_file(path)["layers.0.w.weight"]
    assert found.tobytes() == weights["layers.0.w.weight"].tobytes()
    assert os.path.getsize(path) < 0.75 * found.nbytes
    df11.verify(path)
    df11.decompress(path, os.path.join(folder, "plain.safetensors"))
frame = df11.encode(found)
assert df11.decode(frame).tobytes() == found.tobytes()
print(f"alone: {len(frame) / found.nbytes:.3f} of {found.nbytes:,} bytes")
