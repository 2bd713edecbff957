"""The batch protocol of spec/CONFORMANCE.md, for programs of other people that an adapter calls."""

import sys


def serve(tasks):
    """Answers the judge's questions. `tasks` maps a word of the protocol to a function from the input to the output;
    `Refused` says that the input was refused, everything else that the program crashed on it."""
    numbers = {1: "unit", 2: "encode", 3: "frame", 4: "archive"}
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what the program prints is no answer
    out.write(f"df11-batch 1 {' '.join(tasks)}\n".encode())
    out.flush()
    while head := sys.stdin.buffer.read(5):
        data = sys.stdin.buffer.read(int.from_bytes(head[1:], "little"))
        try:
            code, answer = 0, tasks[numbers[head[0]]](data)
        except Refused as why:
            code, answer = 10, str(why).encode()
        except Exception as error:
            code, answer = 1, f"{type(error).__name__}: {error}".encode()
        out.write(bytes([code]) + len(answer).to_bytes(4, "little") + answer)
        out.flush()


class Refused(Exception):
    """The program says that the input is invalid."""
