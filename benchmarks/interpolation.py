"""What the first stage's scores add to the model's: RR@10 by the model's share in their sum (``rerank --interpolate``), against the first stage.

    python benchmarks/interpolation.py --datasets csrerank/demo/en-de,csrerank/demo/ar-ru [--weights .3,.5,.7] [--topics 300] [--after 300] [--k 50] [--json FILE]

Pairs are scored once, exactly; every weight is a sum of those scores. Topics are fixed by a hash, as those of ``csrerank reproduce``; ``--after`` leaves out so many of
the first, for figures on topics that nobody has looked at. What was ranked stays under --work,
so that a killed call goes on where it was. Dense first stages need the encoder of ``scripts/build_encoder``.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from csrerank.cache import cache_folder
from csrerank.evaluation.clusters import clusters_of
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.experiments import tables
from csrerank.experiments.candidates import qrels_of
from csrerank.experiments.tracks import GROUPS, Track
from csrerank.interpolation import interpolated
from csrerank.metadata import sidecar
from csrerank.models.checkpoint import directory_hash, find_model
from csrerank.rerank import SCORING
from csrerank.trec import TopicRun, read_run, write_run

MEASURE = parse_measure("RR@10")


def csrerank(*words: object) -> None:
    """Run a command of csrerank's."""
    subprocess.run([sys.executable, "-m", "csrerank", *map(str, words), "--quiet"], check=True)


def model_hash(name: str) -> str:
    """Of a directory; empty for a name on the hub."""
    directory = Path(find_model(name))
    return directory_hash(directory) if directory.is_dir() else ""


def judged(dataset: str, options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """The judgements of the topics."""
    whole = qrels_of(dataset, options.topics and options.topics + options.after)
    first = qrels_of(dataset, options.after)
    return {topic: dict(grades) for topic, grades in whole.items() if topic not in first}


def ranked(dataset: str, options: argparse.Namespace) -> tuple[list[TopicRun], dict[str, TopicRun]]:
    """The first stage's rankings of the topics, and the model's by topic."""
    encoder = options.encoder or cache_folder() / "encoder"
    made = f"{options.first_stage}-{directory_hash(encoder)[:12]}" if options.first_stage == "dense" else options.first_stage
    name = f"{dataset.replace('/', '-')}.{made}-{options.k}"
    part = f"{options.topics or 'all'}{f'-after-{options.after}' if options.after else ''}"
    whole, run = options.work / f"{name}.trec", options.work / f"{name}.{part}.trec"
    if not sidecar(whole).exists():
        by = ["--encoder", encoder] if options.first_stage == "dense" else []
        csrerank("retrieve", "--dataset", dataset, "--first-stage", options.first_stage, "--k", options.k, "--output", whole, *by)
    qrels = judged(dataset, options)
    write_run(run, [ranking for ranking in read_run(whole) if ranking.topic in qrels])
    model = model_hash(options.model)[:12] if model_hash(options.model) else options.model.replace("/", "-")
    better = run.with_suffix(f".{model}.{SCORING}.{options.precision}.trec")
    if not sidecar(better).exists():
        given = ["--dataset", dataset, "--model", options.model, "--k", options.k, "--precision", options.precision]
        csrerank("rerank", "--run", run, *given, "--output", better)
    return list(read_run(run)), {ranking.topic: ranking for ranking in read_run(better)}


def summed(first: TopicRun, model: TopicRun, weight: float) -> TopicRun:
    """One topic as ``rerank --interpolate`` ranks it."""
    of = dict(zip(model.docs, model.scores, strict=True))
    scores = interpolated(first.scores, np.array([of[doc] for doc in first.docs], np.float32), weight).tolist()
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    return TopicRun(first.topic, [first.docs[at] for at in order], [scores[at] for at in order])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", required=True, help="ir_datasets ids, comma-separated; with the same topics, since averages are tested by topic")
    parser.add_argument("--weights", default=".5")
    parser.add_argument("--topics", type=int, help="by default all")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="leave out the first N topics")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--first-stage", default="dense", choices=["dense", "oracle", "bm25"])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--work", type=Path, default=Path("build/interpolation"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.after < 0:
        parser.error(f"--after {options.after}: give 0 or more")
    options.work.mkdir(parents=True, exist_ok=True)
    weights = [float(weight) for weight in options.weights.split(",")]
    systems = [tables.FIRST_STAGE, "model", *(f"interpolated, {weight:g}" for weight in weights)]
    chosen = [Track(dataset, dataset, GROUPS[0]) for dataset in options.datasets.split(",")]
    found: dict[tuple[str, str], list[tables.Scores]] = {}
    print("| topics and documents | " + " | ".join(systems) + " |\n" + "|---" * (len(systems) + 1) + "|", flush=True)
    for track in chosen:
        first, model = ranked(track.dataset, options)
        runs = [first, list(model.values()), *([summed(one, model[one.topic], weight) for one in first] for weight in weights)]
        for system, run in zip(systems, runs, strict=True):
            found[system, track.name] = [evaluate(run, judged(track.dataset, options), [MEASURE])[MEASURE.name]]
        print(f"| {track.name} | " + " | ".join(f"{100 * tables.mean(found[system, track.name][0]):.1f}" for system in systems) + " |", flush=True)
    means = [sum(tables.mean(found[system, track.name][0]) for track in chosen) / len(chosen) for system in systems]
    print("| average | " + " | ".join(f"{100 * mean:.1f}" for mean in means) + " |\n")
    if options.json:
        cells = {f"{system}, {track}": tables.mean(scores[0]) for (system, track), scores in found.items()}
        options.json.write_text(
            json.dumps({"command": sys.argv, "model sha256": model_hash(options.model), "scoring": SCORING, "cells": cells}, indent=1) + "\n"
        )
    clusters = {track.name: clusters_of(track.dataset, judged(track.dataset, options)) for track in chosen}
    against = tables.difference_table(tables.differences(found, systems, chosen, clusters, tables.FIRST_STAGE))
    print("\n".join(against).replace(f"{GROUPS[0]} average", "average"))


if __name__ == "__main__":
    main()
