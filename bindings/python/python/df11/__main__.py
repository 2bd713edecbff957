"""The command `df11`, the same as that of the crate df11-cli: `df11 --help` says what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from ._df11 import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or with those of the process; give its exit code."""
    # Ctrl-C ends it at once, as it does the command elsewhere: what was visible stays as it was.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return command(["df11", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
