"""mlx-dfloat's NumPy reader, for `df11 judge run`: python3 judge_mlx_dfloat.py --batch

Its own code reads the header of the file, checks the parts and decodes them.
"""

import pathlib
import sys
import tempfile

import without_mlx  # noqa: F401  mlx_dfloat imports mlx
from batch import Refused, serve
from mlx_dfloat._safetensors import read_header
from mlx_dfloat.errors import DFloatError
from mlx_dfloat.format import GROUP_FIELD_TYPES, DF11Group
from mlx_dfloat.reference import decode_group

FILE = pathlib.Path(tempfile.mkdtemp()) / "unit.safetensors"


def unit(data):
    FILE.write_bytes(data)
    try:
        header = read_header(FILE)
        parts = {key: header.get(f"unit.{key}") for key in GROUP_FIELD_TYPES}
        for key, (dtype, rank) in GROUP_FIELD_TYPES.items():
            # The package compares them where it looks for units in a model.
            if parts[key] is None or (parts[key].dtype, len(parts[key].shape)) != (dtype, rank):
                raise Refused(f"{key} is missing, or of another type or rank")
        names = tuple(map(str, range(parts["split_positions"].shape[0] + 1)))
        arrays = DF11Group(name="unit", matrix_names=names, path=FILE, tensors=parts).load()
        return decode_group(arrays, name="unit").astype("<u2").tobytes()
    except DFloatError as error:
        raise Refused(error) from error


if __name__ == "__main__":
    serve({"unit": unit})
