"""Accelerate: the windows of a re-ranking job scored by the processes that ``accelerate launch`` or ``torchrun`` started, one for each GPU.

The first of them reads, keeps the journal and writes, as if it were alone; the others are sent windows. What comes out is the bytes of one process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from csrerank.errors import InputError
from csrerank.integrations.worker import Spec, Worker
from csrerank.windows import Scored, Work, score_window

if TYPE_CHECKING:
    from csrerank.models.reranker import Reranker
    from csrerank.windows import Engine

_PATIENCE = timedelta(days=20)  # the others wait while the first reads the run, or goes on from a journal


class Team:
    """The processes of a launch; leave it as a context manager, so that the others learn that the first has done.

    :param device: ``cpu``, or None for a GPU each.
    :raises InputError: for another device, where there are not GPUs enough, and where a single process was started.
    """

    def __init__(self, device: str | None) -> None:
        import torch
        from accelerate import PartialState

        if device not in (None, "cpu"):
            raise InputError(f"--device {device}: with --engine accelerate each process takes a GPU of its own; leave it out, or give cpu")
        said = os.environ.get("LOCAL_WORLD_SIZE", "")  # by the launcher; it changes no result
        asked = int(said) if said.isdecimal() else 1
        if device is None and torch.cuda.device_count() < asked and asked > 1:
            raise InputError(f"--engine accelerate: {asked} processes were started for {torch.cuda.device_count()} GPUs; start fewer, or give --device cpu")
        try:
            self._state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
        except NotImplementedError as error:  # accelerate's, of a kind of GPU
            raise InputError(f"--engine accelerate: {(str(error).splitlines() or [''])[0]}") from None
        except (RuntimeError, ValueError) as error:
            raise InputError(f"--engine accelerate: the processes do not find each other ({(str(error).splitlines() or [''])[0]})") from None
        if self.size < 2:
            raise InputError(
                "--engine accelerate: one process was started; start the command by: accelerate launch --multi_gpu --num_processes N -m csrerank rerank ..."
            )
        # By the place in the launch, whatever variables of accelerate's say.
        self.device = "cpu" if device == "cpu" else f"cuda:{self._state.local_process_index}"
        if device is None:
            torch.cuda.set_device(self.device)
        self._waiting = True  # the others, for what the first has to say

    @property
    def size(self) -> int:
        """How many processes there are."""
        return int(self._state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this one reads and writes."""
        return bool(self._state.is_main_process)

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, InputError):
            return  # the others may be at another step: they are left to the launcher, which ends them when this one has
        if self.first and self._waiting:
            with suppress(InputError):  # what went wrong first is what counts, and where nothing did all is written
                self._told(None)
        if kind is None:
            self._state.destroy_process_group()

    def engine(self, name: str, model: "Reranker", threads: int) -> "Engine":
        """What scores a job's windows, in the first process; ``name`` is the model's, and ``threads`` each one computes with."""

        def scored(work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
            self._told(Spec.of(name, model, threads))
            while windows := list(islice(work, self.size)):
                self._told(windows)
                mine: Scored | str
                try:
                    mine = score_window(model, windows[0], advance)
                except InputError as error:
                    mine = str(error)
                for number, found in enumerate(self._gathered(mine)[: len(windows)]):
                    if isinstance(found, str):
                        raise InputError(found)
                    if number:
                        advance(len(found.scores))
                    yield found

        return scored

    def serve(self) -> None:
        """Score what the first process sends until it has done."""
        spec = self._told()
        if spec is None:
            return
        worker = Worker(spec._replace(device=self.device))
        while windows := self._told():
            number = self._state.process_index
            self._gathered(worker.score(windows[number]) if number < len(windows) else None)

    def _told(self, said: Any = None) -> Any:
        """What the first process says, to all."""
        from accelerate.utils import broadcast_object_list

        return self._joint(lambda: broadcast_object_list([said])[0])

    def _gathered(self, mine: "Scored | str | None") -> list[Any]:
        """What each has, in the order of the processes."""
        from accelerate.utils import gather_object

        return list(self._joint(lambda: gather_object([mine])))

    def _joint(self, call: Callable[[], Any]) -> Any:
        self._waiting = False
        try:
            found = call()
        except RuntimeError as error:
            raise InputError(
                f"a process of the launch has ended ({(str(error).splitlines() or [''])[0]}); the same command goes on with the windows that are missing"
            ) from error
        self._waiting = True
        return found
