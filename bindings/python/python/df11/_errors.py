"""The exceptions of this package, a tree under `Error`."""

from __future__ import annotations

import os
from typing import Any


class Error(Exception):
    """The base of all exceptions. The text names the file, the tensor and the broken rule.

    Attributes:
        kind: `truncated`, `corrupt`, `checksum`, `unsupported`, `limit_exceeded`, `invalid_input`,
            `data`, `device` or `io`.
        clause: The clause of the specification that is broken, such as `D-5.4`, if it is one.
        path: The file, if it is known.
        tensor: The tensor, or the module path of the unit, if it is known.

    """

    kind: str = "data"
    clause: str | None = None
    path: str | None = None
    tensor: str | None = None


class DataError(Error, ValueError):
    """A file has the wrong content: it is not safetensors, or is compressed already."""


class CorruptError(DataError):
    """Bytes break a rule of their format, or a checksum: they were damaged or truncated."""

    kind = "corrupt"


class UnsupportedError(Error, ValueError):
    """The data is valid, but the format, or this version, does not support it."""

    kind = "unsupported"


class InvalidInputError(Error, ValueError):
    """The call is wrong: an argument with a wrong type, length or name."""

    kind = "invalid_input"


class DeviceError(Error, RuntimeError):
    """There is no such GPU, it lacks memory, or its driver refused."""

    kind = "device"


class UnknownTensorError(InvalidInputError, KeyError):
    """There is no tensor of this name."""

    # KeyError would show the text in quotation marks.
    __str__ = Error.__str__


class IoError(Error, OSError):
    """The operating system refused. `errno`, `strerror` and `filename` are those of OSError."""

    kind = "io"

    def __init__(self, message: str, errno: int | None = None, filename: str | None = None) -> None:
        if errno is None:
            super().__init__(message)
        else:
            super().__init__(errno, os.strerror(errno), filename)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would put its own arguments in place of the message.
        return type(self), (self.message, self.errno, self.filename), self.__dict__

    # OSError would omit the action that failed.
    def __str__(self) -> str:
        return self.message


_CLASSES: dict[str, type[Error]] = {
    "truncated": CorruptError,
    "corrupt": CorruptError,
    "checksum": CorruptError,
    "unsupported": UnsupportedError,
    "limit_exceeded": UnsupportedError,
    "invalid_input": InvalidInputError,
    "data": DataError,
    "device": DeviceError,
}


def build(
    message: str,
    kind: str,
    clause: str | None = None,
    path: str | None = None,
    tensor: str | None = None,
    errno: int | None = None,
) -> BaseException:
    """Make the exception for what the extension reports."""
    if kind == "cancelled":
        return KeyboardInterrupt()
    error: Error
    if kind == "io":
        error = IoError(message, errno, path)
    else:
        error = _CLASSES.get(kind, Error)(message)
    error.kind, error.clause, error.path, error.tensor = kind, clause, path, tensor
    return error
