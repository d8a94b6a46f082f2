"""What benchmarks of quality share: topics fixed by a hash, first stages and their re-ranked runs, kept so that a killed call goes on where it was."""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from csrerank.cache import cache_folder
from csrerank.experiments.candidates import qrels_of
from csrerank.journal import journal_of
from csrerank.metadata import sidecar
from csrerank.models.calibration import VERSION
from csrerank.models.checkpoint import directory_hash, find_model
from csrerank.rerank import SCORING
from csrerank.trec import TopicRun, read_run, write_run


def csrerank(*words: object) -> None:
    """Run a command of csrerank's."""
    subprocess.run([sys.executable, "-m", "csrerank", *map(str, words), "--quiet"], check=True)


def model_hash(name: str) -> str:
    """Of a directory; empty for a name on the hub."""
    directory = Path(find_model(name))
    return directory_hash(directory) if directory.is_dir() else ""


def add_options(parser: argparse.ArgumentParser, topics: int | None, k: int) -> None:
    """What ``judged`` and ``ranked`` read, with the benchmark's own defaults."""
    parser.add_argument("--topics", type=int, default=topics, help=f"by default {topics or 'all'}")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="leave out the first N topics")
    parser.add_argument("--k", type=int, default=k)
    parser.add_argument("--first-stage", default="dense", choices=["dense", "oracle", "bm25"])
    parser.add_argument("--encoder", type=Path, help="of --first-stage dense; by default that of scripts/build_encoder")
    parser.add_argument("--model", default="default")
    parser.add_argument("--work", type=Path, default=Path("build/interpolation"), help="what was ranked")
    parser.add_argument("--json", type=Path)


def checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; their work folder exists."""
    options = parser.parse_args()
    if options.after < 0:
        parser.error(f"--after {options.after}: give 0 or more")
    if options.topics is not None and options.topics < 1:
        parser.error(f"--topics {options.topics}: give 1 or more, or leave it out for all")
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def judged(dataset: str, options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """The judgements of the topics."""
    whole = qrels_of(dataset, options.topics and options.topics + options.after)
    first = qrels_of(dataset, options.after)
    if len(whole) == len(first):
        raise SystemExit(f"--after {options.after}: {dataset} has no more topics than {len(first)}; give less")
    return {topic: dict(grades) for topic, grades in whole.items() if topic not in first}


class Job(NamedTuple):
    """A job of re-ranking: the first stage's rankings, the model's by topic, its run, and the seconds that it took, None where it was there already or in part."""

    first: list[TopicRun]
    runs: dict[str, TopicRun]
    path: Path
    seconds: float | None


def ranked(dataset: str, options: argparse.Namespace, precision: str) -> tuple[list[TopicRun], dict[str, TopicRun]]:
    """The first stage's rankings of the topics, and the model's by topic."""
    job = rerank(dataset, options, precision)
    return job.first, job.runs


def rerank(dataset: str, options: argparse.Namespace, precision: str, more: Mapping[str, object] = MappingProxyType({})) -> Job:
    """Re-rank the first stage's run of the topics, with ``more`` options of ``csrerank rerank``."""
    encoder = options.encoder or cache_folder() / "encoder"
    if options.first_stage == "dense" and not (encoder / "config.json").is_file():
        raise SystemExit(f"{encoder}: no encoder; run scripts/build_encoder, or give --encoder")
    made = f"{options.first_stage}-{directory_hash(encoder)[:12]}" if options.first_stage == "dense" else options.first_stage
    name = f"{dataset.replace('/', '-')}.{made}-{options.k}"
    part = f"{options.topics or 'all'}{f'-after-{options.after}' if options.after else ''}"
    whole, run = options.work / f"{name}.trec", options.work / f"{name}.{part}.trec"
    if not sidecar(whole).exists():
        by = ["--encoder", encoder] if options.first_stage == "dense" else []
        csrerank("retrieve", "--dataset", dataset, "--first-stage", options.first_stage, "--k", options.k, "--output", whole, *by)
    qrels = judged(dataset, options)
    write_run(run, [ranking for ranking in read_run(whole) if ranking.topic in qrels])
    model = model_hash(options.model)[:12] or options.model.replace("/", "-")
    label = "".join(f".{name}-{value}" for name, value in more.items())
    label += f".by-{VERSION}" if precision in ("mixed", "int8") else ""
    better = run.with_suffix(f".{model}.{SCORING}.{precision}{label}.trec")
    seconds = None
    if not sidecar(better).exists():
        given = ["--dataset", dataset, "--model", options.model, "--k", options.k, "--precision", precision]
        begun, start = journal_of(better).exists(), time.perf_counter()
        csrerank("rerank", "--run", run, *given, *(word for name, value in more.items() for word in (f"--{name}", value)), "--output", better)
        seconds = None if begun else time.perf_counter() - start
    return Job(list(read_run(run)), {ranking.topic: ranking for ranking in read_run(better)}, better, seconds)
