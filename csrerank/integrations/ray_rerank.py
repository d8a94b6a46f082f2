"""Ray: the windows of a re-ranking job scored by workers on this machine or on a cluster. A window whose worker is killed is scored again by another."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from csrerank.errors import InputError
from csrerank.integrations.ray import imported, started
from csrerank.integrations.worker import Spec, Worker
from csrerank.windows import Scored, Work

if TYPE_CHECKING:
    from csrerank.windows import Engine

TRIES = 3  # at a window, or at starting a worker
_AHEAD = 2  # windows sent to each worker, so that it finds the next when it has finished one
_START = 180.0  # seconds in which a first worker must be ready


def check_options(engine: str, workers: int | None, address: str | None, threads: int | None) -> None:
    """Raise ``InputError`` for options that do not belong together, or without Ray."""
    if engine == "ray":
        imported()
        if address is not None and threads is None:
            raise InputError("--address needs --threads, the threads of each worker, which must stay the same for a job to go on; give it too")
    elif workers is not None or address is not None:
        raise InputError(f"--{'workers' if workers is not None else 'address'} belongs to --engine ray; give that too")


def threads_of(workers: int | None) -> int:
    """Threads of each worker on this machine: the processors shared out."""
    return max(1, len(os.sched_getaffinity(0)) // (workers or 1))


def on_ray(spec: Spec, workers: int | None = None, address: str | None = None) -> "Engine":
    """What scores a job's windows by Ray.

    :param workers: by default one here, and on a cluster as many as its machines have processors (and GPUs, for that device) for.
    :param address: of a running cluster; by default Ray is started here and stopped at the end.
    :raises InputError: without Ray, where no cluster answers or has room, for a worker that cannot load the model or differs, and where a window's workers die again and
        again.
    """

    def scored(work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        ray = imported()
        with started(ray, (workers or 1) * spec.threads, address):
            room = _room(ray, spec)
            if not room or (workers or 1) > room:
                raise InputError(f"Ray has room for {room} workers of {spec.threads} threads on {spec.device}; give fewer --workers or --threads")
            yield from _Pool(ray, spec, workers or room).scored(work, advance)

    return scored


def _room(ray: Any, spec: Spec) -> int:
    """Workers that the machines of a Ray have room for."""
    room = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = int(has.get("CPU", 0)) // spec.threads
            room += min(fits, int(has.get("GPU", 0))) if spec.device == "cuda" else fits
    return room


class _Pool:
    """Workers that have answered get windows; those of a dead one are the next that any gets."""

    def __init__(self, ray: Any, spec: Spec, count: int) -> None:
        self._ray, self._spec = ray, spec
        self._remote = ray.remote(num_cpus=spec.threads, num_gpus=1 if spec.device == "cuda" else 0)(Worker)
        self._workers: dict[int, Any] = {}
        self._ready: set[int] = set()
        self._starting: dict[Any, int] = {}  # by what is to come: the worker's number
        self._sent: dict[Any, tuple[int, Work]] = {}  # by what is to come: the worker's number, and what it does
        self._lost: deque[Work] = deque()
        self._tries: dict[int, int] = {}
        self._failed = 0  # workers that died before they were ready, one after the other
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        number = len(self._workers)
        self._workers[number] = self._remote.remote(self._spec)
        self._starting[self._workers[number].ready.remote()] = number

    def scored(self, work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        """Windows as they come."""
        left: Work | None = next(work, None)
        while left is not None or self._lost or self._sent:
            while (left is not None or self._lost) and (idle := self._idle()) is not None:
                if self._lost:
                    self._send(idle, self._lost.popleft())
                elif left is not None:
                    self._send(idle, left)
                    left = next(work, None)
            done, _ = self._ray.wait([*self._sent, *self._starting], num_returns=1, timeout=None if self._sent else _START)
            if not done:
                raise InputError(f"Ray: no worker was ready within {_START:.0f} seconds; its processors may be another job's. The same command goes on")
            if (found := self._taken(done[0])) is not None:
                advance(len(found.scores))
                yield found

    def _taken(self, ready: Any) -> Scored | None:
        """What has come: a window's scores, or None for a worker that is ready or has died."""
        errors = self._ray.exceptions
        number = self._starting[ready] if ready in self._starting else self._sent[ready][0]
        try:
            found = self._ray.get(ready)
        except (errors.RayActorError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            self._bury(number, str(error))
            return None
        except errors.RayError as error:
            raise InputError(f"Ray: {str(error).strip().splitlines()[-1]}; the same command goes on with the windows that are missing") from error
        if isinstance(found, str) and found:
            raise InputError(found)
        if ready in self._starting:
            del self._starting[ready]
            self._ready.add(number)
            self._failed = 0
            return None
        del self._sent[ready]
        assert isinstance(found, Scored)
        return found

    def _idle(self) -> int | None:
        """The ready worker with the least to do, if it has room."""
        load = dict.fromkeys(sorted(self._ready), 0)
        for worker, _ in self._sent.values():
            load[worker] += 1
        least = min(load, key=lambda worker: load[worker], default=None)
        return least if least is not None and load[least] < _AHEAD else None

    def _send(self, worker: int, window: Work) -> None:
        self._sent[self._workers[worker].score.remote(window)] = worker, window

    def _bury(self, dead: int, said: str) -> None:
        """Start another worker, and put back what the dead one had; the first of that counts as tried."""
        lost = [(sent, window) for sent, (worker, window) in self._sent.items() if worker == dead]
        self._ready.discard(dead)
        self._ray.kill(self._workers[dead])  # one that only could not be reached would keep its processors
        self._starting = {ready: number for ready, number in self._starting.items() if number != dead}
        if lost:
            number = lost[0][1].number
            self._tries[number] = self._tries.get(number, 0) + 1
        else:
            self._failed += 1
        if TRIES in (self._failed, self._tries.get(lost[0][1].number) if lost else 0):
            raise InputError(
                f"{TRIES} Ray workers died, one after the other, {'at one window of pairs' if lost else 'before they were ready'} (killed, perhaps because memory ran out; Ray: {said.strip().splitlines()[-1]}); take fewer --workers or a smaller --batch-tokens, and the same command goes on"
            )
        for sent, window in lost:
            del self._sent[sent]
            self._lost.append(window)
        self._start()
