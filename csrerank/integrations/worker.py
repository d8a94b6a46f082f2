"""A process that scores windows of a re-ranking job for another one: what it is told to load, and that it scores as that one would."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from csrerank.errors import InputError
from csrerank.models.checkpoint import DEFAULT_MODEL
from csrerank.windows import Scored, Work, place_of, score_window

if TYPE_CHECKING:
    from csrerank.models.calibration import Calibration
    from csrerank.models.cascade import Pruner
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings


class Spec(NamedTuple):
    """What a worker loads, and what it has to find there: settings are resolved, and int8's ranges and what prunes come along, so that all score alike.

    ``fingerprint`` is the checkpoint's; ``place`` what the journal goes by of a machine, and ``arithmetic`` what it computes in.
    """

    name: str
    settings: "Settings"
    device: str
    calibration: "Calibration | None"
    pruner: "Pruner | None"
    threads: int
    fingerprint: str
    place: dict[str, Any]
    arithmetic: str

    @classmethod
    def of(cls, name: str, model: "Reranker", threads: int) -> "Spec":
        """The spec of a model that is loaded here under ``name``; a directory is looked for under its whole path, since workers run in folders of their own."""
        place = place_of(model)
        return cls(
            str(Path(name).absolute()) if name != DEFAULT_MODEL and Path(name).is_dir() else name,
            model.settings,
            model.device.type,  # Ray shows each worker one GPU, whose number here may not be its number there
            model.calibration,
            model.pruner,
            threads,
            model.fingerprint,
            place,
            model.arithmetic,
        )


class Worker:
    """A process that holds the model, or knows why it does not."""

    def __init__(self, spec: Spec) -> None:
        self._model: Reranker | None = None
        self._error = ""
        try:
            self._model = _loaded(spec)
        except Exception as error:  # whatever keeps a machine from loading it: told by the machine's name, where Ray would only say that the worker died
            said = (str(error).splitlines() or [""])[0]
            self._error = f"{os.uname().nodename}: {said if isinstance(error, InputError) else f'{type(error).__name__}: {said}'}"

    def ready(self) -> str:
        """What is wrong, if anything."""
        return self._error

    def score(self, work: Work) -> Scored | str:
        """The window's scores, or what is wrong."""
        if self._model is None:
            return self._error
        try:
            return score_window(self._model, work)
        except InputError as error:
            return str(error)


def _loaded(spec: Spec) -> "Reranker":
    import torch

    from csrerank.models.reranker import Reranker

    torch.set_num_threads(spec.threads)
    model = Reranker.load(spec.name, spec.settings, spec.device, spec.calibration, light=True)
    model.pruner = spec.pruner
    if model.fingerprint != spec.fingerprint:
        raise InputError(f"{spec.name}: another checkpoint has this name here; give a name or folder that is the same on all machines")
    if model.arithmetic != spec.arithmetic:
        raise InputError(f"computes in {model.arithmetic}, where the command does in {spec.arithmetic}; take machines that are alike")
    if (mine := place_of(model)) != spec.place:
        differs = next(key for key in mine if mine[key] != spec.place[key])
        raise InputError(f"{differs} {mine[differs]}, where the command has {spec.place[differs]}; take machines that are alike")
    return model
