"""Who writes the shards: this process, several of this machine, or Ray's. Each takes a job, shards, and a function that gives the records of a
shard where they are in memory already (else None); it gives the shards' notes in any order.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from os import _exit
from typing import Any

from csrerank.errors import InputError
from csrerank.switching.job import Job, Shard
from csrerank.switching.shards import write_shard

Noted = Iterator[tuple[Shard, dict[str, Any]]]
Held = Callable[[Shard], list[Any] | None]
Engine = Callable[[Job, Sequence[Shard], Held], Noted]
DEATHS = 3  # of worker processes, one after the other with no shard written in between, after which there is no use in going on


def engine_named(name: str, workers: int | None, address: str | None) -> Engine:
    """The engine ``process`` (by default with one worker, this process) or ``ray``. Raises ``InputError`` where Ray is not installed."""
    if name == "ray":
        if find_spec("ray") is None:
            raise InputError("--engine ray needs Ray; pip install csrerank[ray]")
        from csrerank.integrations.ray import shards_written

        return partial(shards_written, workers=workers, address=address)
    if address is not None:
        raise InputError("--address belongs to --engine ray; give that too")
    return here if (workers or 1) == 1 else partial(processes, workers=workers or 1)


def here(job: Job, shards: Sequence[Shard], held: Held) -> Noted:
    """One shard after the other in this process."""
    for shard in shards:
        yield shard, write_shard(job, shard, held(shard))


def processes(job: Job, shards: Sequence[Shard], held: Held, workers: int) -> Noted:
    """Several processes of this machine. A shard whose process is killed is written again by another.

    Raises ``InputError`` where processes die again and again.
    """
    left, deaths = dict.fromkeys(shards), 0
    while left:
        pool = ProcessPoolExecutor(min(workers, len(left)), mp_context=get_context("spawn"), initializer=_begin)
        try:
            futures = {_submitted(pool, job, shard, held(shard)): shard for shard in left}
            for future in as_completed(futures):
                note = future.result()
                deaths = 0
                del left[futures[future]]
                yield futures[future], note
        except BrokenProcessPool:
            deaths += 1
            if deaths == DEATHS:
                raise InputError(
                    f"worker processes died {deaths} times in a row (killed, perhaps because memory ran out); "
                    "take fewer --workers or a smaller --shard-size; with the same settings the finished shards are kept"
                ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, job: Job, shard: Shard, rows: list[Any] | None) -> "Future[dict[str, Any]]":
    """Submit a shard, which may start a process. That process inherits a blocked SIGINT: an interrupt in its first moments would print its traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(write_shard, job, shard, rows)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """In a worker: leave an interrupt to the main process, and end when that has gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = parent_process()
    assert main is not None

    def end_with_it() -> None:
        main.join()
        _exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
