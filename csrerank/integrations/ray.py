"""Ray: the shards of a code-switched collection written by Ray Data tasks, on this machine or on a cluster. A task whose worker is killed is run again."""

import json
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from csrerank.errors import InputError

if TYPE_CHECKING:
    from csrerank.switching.engines import Held
    from csrerank.switching.job import Job, Shard

TRIES = 5  # at a shard; Ray Data itself would start the task of a dead worker for ever
_STORE = 128 << 20  # bytes of the object store, through which notes pass and small collections; what does not fit lies on disk


def shards_written(
    job: "Job", shards: "Sequence[Shard]", held: "Held", workers: int | None = None, address: str | None = None
) -> "Iterator[tuple[Shard, dict[str, Any]]]":
    """Write shards by Ray and give their notes as they come, as ``switching.engines`` says of every engine.

    :param workers: processors of a Ray that is started here (by default all); on a cluster, tasks at a time (by default as many as fit).
    :param address: of a running cluster, whose machines see the same --output and caches; by default Ray is started here and stopped at the end.
    :raises InputError: without Ray, where no cluster answers, for a record that cannot be written, and where a shard's worker dies again and again.
    """
    ray = imported()
    import_module("ray.data")

    from csrerank.switching.shards import NOTES

    token = secrets.token_hex(8)
    for tries in (job.output / NOTES).glob("*.tries"):  # of a job that was interrupted, whose deaths are not ours
        tries.unlink(missing_ok=True)
    with started(ray, workers, address):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # A block and so a task for each shard: a killed worker costs one shard's time.
        places = ray.data.from_items([{"place": place} for place in range(len(shards))], override_num_blocks=len(shards))
        tasks = ray.data.TaskPoolStrategy(size=workers if address else None)
        try:
            sent = [None if rows is None else ray.put(rows) for rows in map(held, shards)]
            written = places.map(_task(job, list(zip(shards, sent, strict=True)), token), compute=tasks, num_cpus=1)
            for row in written.iter_rows():
                if row["error"] is not None:
                    raise InputError(row["error"])
                yield shards[row["place"]], json.loads(row["note"])
        except ray.exceptions.RayError as error:
            raise InputError(f"Ray: {str(error).strip().splitlines()[0]}; the same command goes on with the shards that are missing") from error


def imported() -> Any:
    """The module ray, which then sends nothing anywhere and leaves this process's signals alone (unless the program imported it before: Ray looks at
    its variables then). Raises ``InputError`` where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Java reaches null checks through SIGSEGV. Ray would take that signal over, and at its shutdown give it back to nobody: the next check ended the process.
    os.environ["RAY_DISABLE_FAILURE_SIGNAL_HANDLER"] = "1"
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray; pip install csrerank[ray]") from None
    return ray


@contextmanager
def started(ray: Any, processors: int | None, address: str | None) -> Iterator[None]:
    """A Ray that runs: the one that this process uses already, the cluster at ``address``, or one started here with so many ``processors`` (by default all) and stopped at
    the end. Raises ``InputError`` where no cluster answers.
    """
    mine = not ray.is_initialized()
    try:
        if mine:
            _start(ray, processors, address)
        yield
    finally:
        if mine:
            ray.shutdown()


def _start(ray: Any, processors: int | None, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", num_cpus=processors, include_dashboard=False, object_store_memory=_STORE, **quiet)
        return
    host, _, port = address.rpartition(":")
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), 10).close()  # Ray itself would try for many minutes
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:  # OSError: ConnectionError among others
        raise InputError(f"--address {address}: no Ray answers there ({str(error).splitlines()[0]}); give HOST:PORT or auto, or leave it out") from error


def _task(job: "Job", work: "Sequence[tuple[Shard, Any]]", token: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def written(row: dict[str, Any]) -> dict[str, Any]:
        import ray

        from csrerank.switching.shards import NOTES, note_name, write_shard

        shard, rows = work[row["place"]]
        tries = job.output / NOTES / f"{note_name(shard)}.{token}.tries"
        with open(tries, "ab") as file:
            file.write(b".")
        if tries.stat().st_size > TRIES:
            error = (
                f"{shard.stem}: {TRIES} Ray workers died writing it (killed, perhaps because memory ran out); take fewer --workers or a smaller --shard-size"
            )
            return {"place": row["place"], "note": None, "error": error}
        try:
            note = write_shard(job, shard, None if rows is None else ray.get(rows), token)
            tries.unlink(missing_ok=True)
            return {"place": row["place"], "note": json.dumps(note), "error": None}
        except InputError as error:  # bad input is no reason to try again
            return {"place": row["place"], "note": None, "error": str(error)}

    return written
