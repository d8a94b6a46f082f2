"""What the first stage's scores add to the model's: RR@10 by the model's share in their sum (``rerank --interpolate``), against the first stage.

    python benchmarks/interpolation.py --datasets csrerank/demo/en-de,csrerank/demo/ar-ru [--weights .3,.5,.7] [--topics 300] [--after 300] [--k 50] [--json FILE]

Pairs are scored once, exactly; every weight is a sum of those scores. Topics are fixed by a hash, as those of ``csrerank reproduce``; ``--after`` leaves out so many of
the first, for figures on topics that nobody has looked at. What was ranked stays under --work,
so that a killed call goes on where it was. Dense first stages need the encoder of ``scripts/build_encoder``.
"""

import argparse
import json
import sys

import numpy as np
from ranking import add_options, checked, judged, model_hash, ranked

from csrerank.evaluation.clusters import clusters_of
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.experiments import tables
from csrerank.experiments.tracks import GROUPS, Track
from csrerank.interpolation import interpolated
from csrerank.rerank import SCORING
from csrerank.trec import TopicRun

MEASURE = parse_measure("RR@10")


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
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    add_options(parser, topics=None, k=50)
    options = checked(parser)
    weights = [float(weight) for weight in options.weights.split(",")]
    systems = [tables.FIRST_STAGE, "model", *(f"interpolated, {weight:g}" for weight in weights)]
    chosen = [Track(dataset, dataset, GROUPS[0]) for dataset in options.datasets.split(",")]
    found: dict[tuple[str, str], list[tables.Scores]] = {}
    print("| topics and documents | " + " | ".join(systems) + " |\n" + "|---" * (len(systems) + 1) + "|", flush=True)
    for track in chosen:
        first, model = ranked(track.dataset, options, options.precision)
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
