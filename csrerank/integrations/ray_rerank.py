"""Ray: the windows of a re-ranking job scored by workers on this machine or on a cluster. A window whose worker is killed is scored again by another."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from csrerank.errors import InputError
from csrerank.integrations.ray import imported, started
from csrerank.windows import Scored, Work, score_window

if TYPE_CHECKING:
    from csrerank.models.calibration import Calibration
    from csrerank.models.cascade import Pruner
    from csrerank.models.reranker import Reranker, Settings
    from csrerank.windows import Engine

TRIES = 3  # at a window, whose workers die
_AHEAD = 2  # windows sent to each worker, so that it finds the next when it has finished one


class Spec(NamedTuple):
    """What a worker loads, and ``fingerprint``, which it has to find: settings are resolved and int8's ranges come along, so that all score alike."""

    name: str
    settings: "Settings"
    device: str | None
    calibration: "Calibration | None"
    pruner: "Pruner | None"
    threads: int
    fingerprint: str

    @classmethod
    def of(cls, name: str, model: "Reranker", device: str | None, threads: int) -> "Spec":
        """The spec of a model that is loaded here under ``name``."""
        return cls(name, model.settings, device, model.calibration, model.pruner, threads, model.fingerprint)


class Worker:
    """A process that holds the model."""

    def __init__(self, spec: Spec) -> None:
        import torch

        from csrerank.models.reranker import Reranker

        self._model: Reranker | None = None
        self._error = ""
        torch.set_num_threads(spec.threads)
        try:
            self._model = Reranker.load(spec.name, spec.settings, spec.device, spec.calibration)
            self._model.pruner = spec.pruner
            if self._model.fingerprint != spec.fingerprint:
                self._error = (
                    f"{spec.name}: {os.uname().nodename} has another checkpoint under this name; give a name or folder that is the same on all machines"
                )
        except InputError as error:
            self._error = f"{os.uname().nodename}: {error}"

    def score(self, work: Work) -> Scored | str:
        """The window's scores, or what is wrong."""
        if self._error or self._model is None:
            return self._error
        try:
            return score_window(self._model, work)
        except InputError as error:
            return str(error)


def check_options(engine: str, workers: int | None, address: str | None) -> None:
    """Raise ``InputError`` for options that do not belong together, or without Ray."""
    if engine == "ray":
        imported()
    elif workers is not None or address is not None:
        raise InputError(f"--{'workers' if workers is not None else 'address'} belongs to --engine ray; give that too")


def threads_of(workers: int | None, address: str | None) -> int:
    """Threads of each worker: here the processors shared out, on a cluster all that its smallest machine has."""
    own = len(os.sched_getaffinity(0))
    if address is None:
        return max(1, own // (workers or 1))
    ray = imported()
    with started(ray, None, address):
        return max(1, min(_processors(ray)))


def _processors(ray: Any) -> list[int]:
    return [int(node["Resources"]["CPU"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1] or [1]


def on_ray(spec: Spec, workers: int | None = None, address: str | None = None) -> "Engine":
    """What scores a job's windows by Ray.

    :param workers: by default one here, and on a cluster as many as its machines have processors for.
    :param address: of a running cluster; by default Ray is started here and stopped at the end.
    :raises InputError: without Ray, where no cluster answers, for a worker that cannot load the model, and where a window's workers die again and again.
    """

    def scored(work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        ray = imported()
        with started(ray, (workers or 1) * spec.threads, address):
            room = sum(processors // spec.threads for processors in _processors(ray))
            if workers is not None and workers > room:
                raise InputError(f"--workers {workers}: the cluster has processors for {room} workers of {spec.threads} threads; give that or fewer")
            count = workers or room or 1
            yield from _Pool(ray, spec, count).scored(work, advance)

    return scored


class _Pool:
    def __init__(self, ray: Any, spec: Spec, count: int) -> None:
        self._ray, self._spec = ray, spec
        self._remote = ray.remote(num_cpus=spec.threads, num_gpus=1 if (spec.device or "").startswith("cuda") else 0)(Worker)
        self._workers = [self._remote.remote(spec) for _ in range(count)]
        self._sent: dict[Any, tuple[int, Work]] = {}  # by what is to come: the worker's place, and what it does
        self._tries: dict[int, int] = {}

    def scored(self, work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        errors = self._ray.exceptions
        left = True
        while left or self._sent:
            while left and (idle := self._idle()) is not None:
                window = next(work, None)
                if window is None:
                    left = False
                else:
                    self._send(idle, window)
            if not self._sent:
                break
            (ready,), _ = self._ray.wait(list(self._sent), num_returns=1)
            try:
                found = self._ray.get(ready)
            except errors.RayActorError:
                self._replace(self._sent[ready][0])
                continue
            except errors.RayError as error:
                raise InputError(f"Ray: {str(error).strip().splitlines()[-1]}; the same command goes on with the windows that are missing") from error
            if isinstance(found, str):
                raise InputError(found)
            _, window = self._sent.pop(ready)
            advance(len(window.queries))
            yield found

    def _idle(self) -> int | None:
        """The worker with the least to do, if it has room."""
        load = [0] * len(self._workers)
        for worker, _ in self._sent.values():
            load[worker] += 1
        return load.index(min(load)) if min(load) < _AHEAD else None

    def _send(self, worker: int, window: Work) -> None:
        self._sent[self._workers[worker].score.remote(window)] = worker, window

    def _replace(self, dead: int) -> None:
        """Start another worker and send it what the dead one had; the first of that counts as tried."""
        lost = [(sent, window) for sent, (worker, window) in self._sent.items() if worker == dead]
        number = lost[0][1].number
        self._tries[number] = self._tries.get(number, 0) + 1
        if self._tries[number] == TRIES:
            raise InputError(
                f"{TRIES} Ray workers died, one after the other, at one window of pairs (killed, perhaps because memory ran out); take fewer --workers or a smaller --batch-tokens, and the same command goes on"
            )
        self._workers[dead] = self._remote.remote(self._spec)
        for sent, window in lost:
            del self._sent[sent]
            self._send(dead, window)
