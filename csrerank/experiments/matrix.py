"""The matrix: systems, seeds and tracks. Each cell is a run with its metadata; what is missing, or whose inputs changed, is computed, the rest is kept."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.errors import InputError
from csrerank.experiments.scale import Scale
from csrerank.experiments.systems import System
from csrerank.experiments.tracks import Track
from csrerank.files import atomic
from csrerank.metadata import read_sidecar, write_sidecar
from csrerank.trec import TopicRun, read_run, write_run

KEPT = 20  # documents a topic of a cell's run
MEASURE = "RR@10"
_CELL = "cell"  # where a sidecar says what the cell was made from


class Cell(NamedTuple):
    """One run to make: a system's model of one seed on one track with the candidates of one first stage."""

    system: System
    seed: int
    track: Track
    stage: str

    @property
    def name(self) -> str:
        """Its file's name, under the scale's folder."""
        return f"{self.system.name.replace('/', '-')}.s{self.seed}/{self.track.name}.{self.stage}"


class Layout(NamedTuple):
    """Where things lie: ``runs`` is what is kept, ``work`` models and first-stage runs."""

    runs: Path
    work: Path
    scale: str

    def run(self, cell: Cell) -> Path:
        """A cell's run, its top documents."""
        return self.runs / self.scale / f"{cell.name}.trec.gz"

    def scores(self, cell: Cell) -> Path:
        """A cell's per-topic scores."""
        return self.runs / self.scale / f"{cell.name}.scores.tsv.gz"

    def candidates(self, track: Track, stage: str) -> Path:
        """A track's first-stage run."""
        return self.work / "candidates" / f"{track.dataset.replace('/', '.')}.{stage}.trec.gz"

    def chosen(self, track: Track, stage: str) -> Path:
        """The part of it that the scale ranks; it is kept, since it is the tables' first row."""
        return self.runs / self.scale / "first-stage" / f"{track.name}.{stage}.trec.gz"

    def model(self, training: str, translated: bool, seed: int) -> Path:
        """A model's directory."""
        name = "fine-tuning" if translated else training if not training.startswith("policy:") else Path(training).stem
        return self.work / "models" / f"{name.replace('/', '-')}.{self.scale}.s{seed}"


def cells(systems: Sequence[System], seeds: Sequence[int], tracks: Sequence[Track], stages: Sequence[str]) -> Iterator[Cell]:
    """All cells that the systems define, model by model."""
    for system in systems:
        for seed in seeds:
            for track in tracks:
                if system.model(track) is not None and system.dataset(track) is not None:
                    yield from (Cell(system, seed, track, stage) for stage in stages)


def first_stage(track: Track, stage: str, layout: Layout, scale: Scale, quiet: bool) -> Path:
    """The candidates of a track at this scale: made once, cut to the scale's topics and depth."""
    from csrerank.retrieval.apart import first_stage_run
    from csrerank.training.groups import chosen

    whole, part = layout.candidates(track, stage), layout.chosen(track, stage)
    first_stage_run(track.dataset, stage, 100, whole, quiet=quiet)
    rankings = list(read_run(whole))
    kept = set(chosen((ranking.topic for ranking in rankings), scale.topics))
    cut = [TopicRun(ranking.topic, ranking.docs[: scale.k], ranking.scores[: scale.k]) for ranking in rankings if ranking.topic in kept]
    if not part.exists() or list(read_run(part)) != cut:
        part.parent.mkdir(parents=True, exist_ok=True)
        write_run(part, cut, stage)
        write_sidecar(part, {**(read_sidecar(whole) or {}), "cut to": {"topics": len(cut), "k": scale.k}})
    return part


def qrels_of(dataset_id: str, run: Path) -> dict[str, dict[str, int]]:
    """The judgements of the topics that a (cut) first-stage run has."""
    from csrerank.evaluation.scoring import dataset_qrels

    topics = {ranking.topic for ranking in read_run(run)}
    return {topic: judged for topic, judged in dataset_qrels(dataset_id).items() if topic in topics}


class Ranker:
    """Makes cells with one model; the model is loaded when the first missing cell asks for it."""

    def __init__(self, directory: Path, layout: Layout, scale: Scale, quiet: bool, device: str | None = None) -> None:
        self._directory, self._layout, self._scale, self._quiet, self._device = directory, layout, scale, quiet, device
        self._model: Any = None

    def missing(self, cell: Cell) -> bool:
        """Whether a cell has to be computed: it is not there, or was made from something else."""
        run = self._layout.run(cell)
        if not run.exists() or not self._layout.scores(cell).exists():
            return True
        return (read_sidecar(run) or {}).get(_CELL) != self._inputs(cell)

    def make(self, cell: Cell) -> Path:
        """Compute a cell: its run with metadata, and its per-topic scores."""
        from csrerank.collections.texts import DatasetDocuments, dataset_topics
        from csrerank.models.reranker import Reranker, Settings
        from csrerank.rerank import rerank_run

        if self._model is None:
            self._model = Reranker.load(self._directory, Settings(self._scale.max_length), self._device)
        dataset = cell.system.dataset(cell.track)
        assert dataset is not None
        work = self._layout.work / "cells" / self._layout.scale / f"{cell.name}.trec.gz"
        work.parent.mkdir(parents=True, exist_ok=True)
        inputs = self._inputs(cell)
        candidates = self._layout.chosen(cell.track, cell.stage)
        named = {"test collection": {"name": dataset, "ir_datasets": dataset}}
        rerank_run(
            candidates, work, dataset_topics(dataset), DatasetDocuments(dataset), self._model, k=self._scale.k, tag=cell.system.name.replace("/", "-"),
            data=named, first_stage={"run": candidates.name, "method": cell.stage}, model_name=self._directory.name, quiet=self._quiet,
        )  # fmt: skip
        self._keep(cell, work, inputs)
        return self._layout.run(cell)

    def _keep(self, cell: Cell, work: Path, inputs: Mapping[str, Any]) -> None:
        from csrerank.evaluation.measures import evaluate, parse_measure
        from csrerank.metadata import sidecar

        run = self._layout.run(cell)
        run.parent.mkdir(parents=True, exist_ok=True)
        rankings = list(read_run(work))
        scores = evaluate(rankings, qrels_of(cell.track.dataset, self._layout.chosen(cell.track, cell.stage)), [parse_measure(MEASURE)])[MEASURE]
        write_run(run, (TopicRun(ranking.topic, ranking.docs[:KEPT], ranking.scores[:KEPT]) for ranking in rankings), cell.system.name.replace("/", "-"))
        with atomic(self._layout.scores(cell)) as stream:
            stream.write(_packed("".join(f"{topic}\t{value:.6f}\n" for topic, value in scores.items())))
        # The sidecar comes last: it is what says that the cell is whole.
        write_sidecar(run, {**(read_sidecar(work) or {}), "kept": {"documents a topic": KEPT}, _CELL: dict(inputs)})
        for path in (work, sidecar(work)):
            path.unlink()

    def _inputs(self, cell: Cell) -> dict[str, Any]:
        """What makes a cell's figures."""
        from csrerank.metadata import versions
        from csrerank.models.reranker import directory_hash

        candidates = self._layout.chosen(cell.track, cell.stage)
        return {
            "model sha256": directory_hash(self._directory),
            "candidates sha256": hashlib.sha256(candidates.read_bytes()).hexdigest(),
            "dataset": cell.system.dataset(cell.track),
            "k": self._scale.k,
            "versions": {name: version for name, version in versions().items() if name in ("csrerank", "torch", "transformers", "tokenizers")},
        }


def _packed(text: str) -> bytes:
    import gzip

    return gzip.compress(text.encode(), mtime=0)


def read_scores(path: Path) -> dict[str, float]:
    """Topic -> value of a cell's scores."""
    import gzip

    try:
        return {topic: float(value) for topic, value in (line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines())}
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a cell's scores ({error}); delete it, and the next run makes it again") from None


def trained(directory: Path, wanted: Mapping[str, Any], make: Callable[[Path], object]) -> Path:
    """A model's directory: the one that is there if it was trained as ``wanted`` says, else made by ``make``."""
    known = directory / "training.json"
    if (directory / "config.json").exists():
        try:
            before = json.loads(known.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        if before.get("made from") == dict(wanted):
            return directory
        shutil.rmtree(directory)
    make(directory)
    return directory
