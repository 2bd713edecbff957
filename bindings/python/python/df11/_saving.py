"""Writes tensors as one compressed file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from ._errors import InvalidInputError
from ._files import Options, Path, compress


def save_file(
    write: Callable[[str], None],
    filename: Path,
    options: Options,
) -> None:
    """Compress what `write` writes to the file that it is given, into `filename`.

    The plain file lies beside the output until it is compressed. The output becomes visible when it
    is whole.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(
            f"there is no argument {unknown.pop()!r}, but {', '.join(Options.__annotations__)}"
        )
    target = os.path.abspath(os.fspath(filename))
    folder, name = os.path.split(target)
    if os.path.isdir(target):
        raise InvalidInputError(f"{target} is a directory; name a file")
    with tempfile.TemporaryDirectory(prefix=".df11-", dir=folder) as temporary:
        plain_name = name if name.endswith(".safetensors") else name + ".safetensors"
        os.mkdir(os.path.join(temporary, "plain"))
        plain = os.path.join(temporary, "plain", plain_name)
        write(plain)
        packed = os.path.join(temporary, "packed.safetensors")
        report = compress(plain, packed, **options)
        # A file that would not shrink stays plain; every function here reads both.
        os.replace(plain if report.nothing_to_gain else packed, target)


def save(
    write: Callable[[str], None],
    options: Options,
) -> bytes:
    """Compress what `write` writes, into bytes."""
    with tempfile.TemporaryDirectory(prefix="df11-") as temporary:
        path = os.path.join(temporary, "model.safetensors")
        save_file(write, path, options)
        with open(path, "rb") as file:
            return file.read()


class Bytes:
    """Make a temporary file with these bytes."""

    def __init__(self, data: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="df11-")
        self.path = os.path.join(self._folder.name, "model.safetensors")
        with open(self.path, "wb") as file:
            file.write(data)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()
