"""Where the matrix lies: cells, their files, and the files of models and first-stage runs, by collection and scale."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.experiments.systems import System
from csrerank.experiments.tracks import Track
from csrerank.files import atomic

KEPT = 20  # documents a topic of a run that is kept
MEASURE = "RR@10"
CELL = "cell"  # where a sidecar says what the cell was made from
_UNTRAINED = 0  # in the place of a seed


class Cell(NamedTuple):
    """One run to make: a system's model of one seed on one track with the candidates of one first stage."""

    system: System
    seed: int
    track: Track
    stage: str

    @property
    def name(self) -> str:
        """Its file's name, under the scale's folder."""
        return f"{self.system.slug}.s{self.seed}/{self.track.name}.{self.stage}"


class Layout(NamedTuple):
    """Where things lie: ``runs`` is what is kept, ``work`` models, candidates and unfinished cells."""

    runs: Path
    work: Path
    collection: str
    scale: str

    @property
    def kept(self) -> Path:
        """The folder of this collection's and scale's runs."""
        return self.runs / self.collection / self.scale

    def run(self, cell: Cell) -> Path:
        """A cell's run, its top documents."""
        return self.kept / f"{cell.name}.trec.gz"

    def unfinished(self, cell: Cell, key: str) -> Path:
        """A cell's whole run while it is made; another ``key`` (what it is made from) is another file, so that a killed job's journal blocks no other."""
        return self.work / "cells" / self.collection / self.scale / f"{cell.name}.{key}.trec.gz"

    def first_stage(self, track: Track, stage: str) -> Path:
        """A track's first-stage run, its top documents: the tables' first row."""
        return self.kept / "first-stage" / f"{track.name}.{stage}.trec.gz"

    def candidates(self, track: Track, stage: str, key: str) -> Path:
        """A track's candidates; ``key`` says what they are made from."""
        return self.work / "candidates" / self.collection / f"{track.name}.{stage}.{key}.trec.gz"

    def model(self, training: str, translated: bool, seed: int, key: str) -> Path:
        """A model's directory; ``key`` says what it is trained from."""
        name = "fine-tuning" if translated else training if not training.startswith("policy:") else Path(training).stem
        return self.work / "models" / self.collection / f"{name.replace('/', '-')}.{self.scale}.s{seed}.{key}"


def cells(systems: Sequence[System], seeds: Sequence[int], tracks: Sequence[Track], stages: Sequence[str]) -> Iterator[Cell]:
    """All cells that the systems define, model by model. A model that is not trained here has no seeds."""
    for system in systems:
        for seed in (_UNTRAINED,) if system.checkpoint else seeds:
            for track in tracks:
                if system.model(track) is not None and system.dataset(track) is not None:
                    yield from (Cell(system, seed, track, stage) for stage in stages)


def scores_of(run: Path) -> Path:
    """Where the per-topic scores of a run that is kept lie."""
    return run.with_name(re.sub(r"\.trec\.gz$", ".scores.tsv.gz", run.name))


def write_scores(path: Path, scores: Mapping[str, float]) -> None:
    """Write topic and value of a run, a line a topic."""
    with atomic(path) as stream:
        stream.write(gzip.compress("".join(f"{topic}\t{value:.6f}\n" for topic, value in scores.items()).encode(), mtime=0))


def read_scores(path: Path) -> dict[str, float]:
    """Topic -> value of a cell's scores."""
    try:
        scores = {topic: float(value) for topic, value in (line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines())}
        if not scores:
            raise ValueError("it has no topic")
        return scores
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: not a cell's scores ({error}); delete it, and the next run makes it again") from None


def short_hash(*parts: str) -> str:
    """Twelve digits of SHA-256 over texts, for a file's name."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]
