"""Whole checkpoints on a Ray cluster: one remote task for each task of a plan.

`compress`, `decompress` and `verify` are those of `df11`, for checkpoints that one machine is too
small or too slow for. Sources and results are addresses that every node reaches: a store
(`s3://..`, `gs://..`, `az://..`) or a file system that all nodes share. Nodes need this package,
and the credentials of the store in their environment.

Ray decides where a task runs, and runs it again elsewhere if its worker or node is lost. A task may
run twice; that leaves the same. A run that was stopped is taken up again by the same call.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from . import _df11
from ._errors import IoError
from ._files import Codec, Path, PatternDict, Purpose, as_form, as_json
from ._reports import CompressReport, DecompressReport, VerifyReport, load

__all__ = ["Progress", "compress", "decompress", "verify"]


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    #: Tasks that are done, and all.
    done: int
    tasks: int
    #: Bytes of the tasks that are done, and of all.
    bytes_done: int
    bytes: int
    #: Seconds since the run began.
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes that tasks of this run have finished in a second."""
        return self.bytes_done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds until all tasks are done, if they go on as they did."""
        rate = self.bytes_per_second
        return (self.bytes - self.bytes_done) / rate if rate else float("inf")


ProgressCallback = Callable[[Progress], Any]


@dataclass(frozen=True)
class _Work:
    """A task: what is called, its size in bytes, and the memory that it takes."""

    arguments: tuple[Any, ...]
    bytes: int
    memory: int


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of the extension. This is what runs on nodes."""
    return getattr(_df11, name)(*arguments)


def _remote(num_cpus: float, memory: int, retries: int) -> Any:
    """Make the remote function for a task of this size."""
    made = ray.remote(_call)
    return made.options(
        num_cpus=num_cpus,
        memory=memory or None,
        max_retries=retries,
        retry_exceptions=[IoError],
        scheduling_strategy="SPREAD",
        name="df11",
    )


def _one(name: str, *arguments: Any, retries: int) -> Any:
    """Run one function on the cluster, which has the credentials."""
    return ray.get(_remote(1, 0, retries).remote(name, arguments))


def _all(
    name: str,
    work: Sequence[_Work],
    num_cpus: float,
    in_flight: int | None,
    retries: int,
    progress: ProgressCallback | None,
) -> list[Any]:
    """Run all tasks. At most `in_flight` of them are with Ray at a time."""
    if in_flight is None:
        # Twice what can run, so that a node that ends a task finds the next one.
        in_flight = max(2, int(2 * ray.cluster_resources().get("CPU", 1) / num_cpus))
    began, results = time.monotonic(), [None] * len(work)
    state = Progress(0, len(work), 0, sum(task.bytes for task in work), 0.0)
    waiting: dict[Any, int] = {}
    try:
        for number, task in enumerate(work):
            while len(waiting) >= in_flight:
                state = _settle(waiting, results, work, state, began, progress)
            remote = _remote(num_cpus, task.memory, retries)
            waiting[remote.remote(name, task.arguments)] = number
        while waiting:
            state = _settle(waiting, results, work, state, began, progress)
    except BaseException:
        # Tasks that have not begun never do. What is done stays done.
        for reference in waiting:
            ray.cancel(reference, force=False)
        raise
    return results


def _settle(
    waiting: dict[Any, int],
    results: list[Any],
    work: Sequence[_Work],
    state: Progress,
    began: float,
    progress: ProgressCallback | None,
) -> Progress:
    """Wait for a task, and tell."""
    (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
    number = waiting.pop(ready)
    results[number] = ray.get(ready)
    state = replace(
        state,
        done=state.done + 1,
        bytes_done=state.bytes_done + work[number].bytes,
        seconds=time.monotonic() - began,
    )
    if progress is not None:
        progress(state)
    return state


def compress(
    src: Path,
    dst: Path,
    *,
    codec: Codec | None = None,
    purpose: Purpose | None = None,
    block_len: int | None = None,
    pattern_dict: PatternDict | None = None,
    max_shard_size: int | str | None = None,
    force: bool = False,
    num_cpus: float = 1,
    in_flight: int | None = None,
    max_retries: int = 4,
    progress: ProgressCallback | None = None,
) -> CompressReport:
    """Compress the checkpoint at `src` into the folder `dst`, as `df11.compress` does, to the byte.

    Args:
        src: The address of the checkpoint.
        dst: The address of the folder to write.
        codec: What weights become: `df11` (the default), `rans` or `fast`.
        purpose: As for `df11.compress`, but for `size`, which compares all weights first.
        block_len: As for `df11.compress`.
        pattern_dict: Which tensors make which units, as for `df11.compress`.
        max_shard_size: As for `df11.compress`.
        force: As for `df11.compress`.
        num_cpus: The processors of a task, and its threads.
        in_flight: How many tasks are with Ray at a time; by default twice as many as can run.
        max_retries: How often a task is run again whose worker or node was lost, or whose store
            failed.
        progress: A function that is called with a `Progress` when a task is done.

    """
    form = as_form(codec, purpose, block_len, pattern_dict, max_shard_size, force)
    arguments = (os.fspath(src), os.fspath(dst), None, form)
    planned = json.loads(_one("plan", *arguments, retries=max_retries))
    plan, tasks = planned["plan"], planned["tasks"]
    left = _one("tasks_left", plan, retries=max_retries)
    threads = max(1, int(num_cpus))
    work = [
        _Work((plan, number, threads), tasks[number]["bytes"], tasks[number]["memory"])
        for number in left
    ]
    _all("run_task", work, num_cpus, in_flight, max_retries, progress)
    return load(CompressReport, _one("finish", plan, threads, retries=max_retries))


def decompress(
    src: Path,
    dst: Path,
    *,
    pattern_dict: PatternDict | None = None,
    force: bool = False,
    num_cpus: float = 1,
    in_flight: int | None = None,
    max_retries: int = 4,
    progress: ProgressCallback | None = None,
) -> DecompressReport:
    """Restore the compressed checkpoint at `src` into the folder `dst`: one task for each file.

    The arguments are those of `compress` and of `df11.decompress`.
    """
    source, target, names = os.fspath(src), os.fspath(dst), as_json(pattern_dict)
    files = _one("restore_plan", source, target, names, force, retries=max_retries)
    threads = max(1, int(num_cpus))
    work = [
        _Work((source, target, number, names, threads, force), size, 0)
        for number, (_, size) in enumerate(files)
    ]
    _all("restore_task", work, num_cpus, in_flight, max_retries, progress)
    report = _one("restore_finish", source, target, names, force, retries=max_retries)
    return load(DecompressReport, report)


def verify(
    path: Path,
    against: Path | None = None,
    *,
    shares: int | None = None,
    num_cpus: float = 1,
    in_flight: int | None = None,
    max_retries: int = 4,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Verify the compressed checkpoint at `path`, in shares that are tasks.

    Args:
        path: The address of the checkpoint.
        against: The address of the original to compare with as well.
        shares: How many tasks; by default four for each processor of the cluster.
        num_cpus: The processors of a task, and its threads.
        in_flight: How many tasks are with Ray at a time; by default twice as many as can run.
        max_retries: How often a task is run again.
        progress: A function that is called with a `Progress` when a task is done.

    """
    if shares is None:
        shares = max(1, int(4 * ray.cluster_resources().get("CPU", 1) / num_cpus))
    original = None if against is None else os.fspath(against)
    threads = max(1, int(num_cpus))
    work = [
        _Work((os.fspath(path), original, (share, shares), threads), 1, 0)
        for share in range(shares)
    ]
    texts = _all("verify_share", work, num_cpus, in_flight, max_retries, progress)
    return load(VerifyReport, json.dumps(_sum([json.loads(text) for text in texts])))


def _sum(reports: Sequence[Mapping[str, int | None]]) -> dict[str, int | None]:
    """Add the figures of shares up."""
    total = dict(reports[0])
    for report in reports[1:]:
        for key, value in report.items():
            total[key] = None if value is None else (total[key] or 0) + value
    return total
