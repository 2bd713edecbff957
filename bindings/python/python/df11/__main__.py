"""The command `df11`, the same as that of the crate df11-cli; see `df11 --help`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from ._df11 import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process. Return its exit code."""
    # Ctrl-C ends it at once, as it does the command elsewhere: visible files stay unchanged.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return command(["df11", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
