"""What ``--cascade`` saves and what it loses: the same runs re-ranked whole and with it, measured.

    python benchmarks/cascade.py [--datasets csrerank/xquad-r/en-de] [--cascade 10] [--confidence .95] [--topics 300] [--after N] [--k 100] [--json FILE]

Runs are the encoder's dense ranking (`scripts/build_encoder` makes the encoder). Topics are fixed by a hash, as those of ``csrerank reproduce``. Printed are the measures of
both jobs, the difference in RR@10 with its 95 % interval (resampled by article), the share of the true top k that the cascade put below in topics that were not learnt from (those
that were keep the whole model's scores), and beside it what the job had measured on 20 topics before; the share of candidates that the whole model scored, by those 20; and how long
each job took, learning included.
What was ranked stays under --work, so that a killed call goes on where it was (and then the times are not told).
"""

import argparse
import json
import sys
from hashlib import sha256
from heapq import nsmallest
from typing import Any

from ranking import Job, add_options, checked, judged, model_hash, rerank
from yaml import safe_load

from csrerank.evaluation.clusters import clusters_of
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.evaluation.significance import compared
from csrerank.metadata import sidecar
from csrerank.models.cascade import topics_needed
from csrerank.rerank import SCORING

MEASURES = ("RR@10", "nDCG@10", "AP")


def lost(whole: Job, pruned: Job, k: int, confidence: float) -> float:
    """The mean share of a topic's true first k that stands below them in the pruned run, over the topics that it had not learnt from (``csrerank.pruning``)."""
    learnt = nsmallest(
        topics_needed(confidence), (topic for topic in whole.runs if len(whole.runs[topic].docs) > k), lambda topic: sha256(topic.encode()).digest()
    )
    others = {topic: ranking for topic, ranking in whole.runs.items() if topic not in learnt}
    return sum(1 - len({*ranking.docs[:k]} & {*pruned.runs[topic].docs[:k]}) / min(k, len(ranking.docs)) for topic, ranking in others.items()) / len(others)


def described(job: Job) -> dict[str, Any]:
    """What the job says of its cascade."""
    return dict(safe_load(sidecar(job.path).read_text())["method"]["retrieval"][1]["cascade"])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default="csrerank/xquad-r/en-de")
    parser.add_argument("--cascade", type=int, default=10)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of both; a cascade has no mixed")
    add_options(parser, topics=300, k=100)
    options = checked(parser)
    rows = []
    heads = [
        "topics and documents",
        *(f"{name} whole, cascade" for name in MEASURES),
        f"{MEASURES[0]} difference, 95 % interval",
        "of the top lost (by the job's 20)",
    ]
    print("| " + " | ".join([*heads, "scored whole (by the job's 20)", "seconds whole, cascade"]) + " |\n" + "|---" * (len(heads) + 2) + "|", flush=True)
    for dataset in options.datasets.split(","):
        qrels = judged(dataset, options)
        whole = rerank(dataset, options, options.precision)
        pruned = rerank(dataset, options, options.precision, {"cascade": options.cascade, "confidence": options.confidence})
        full, part = (evaluate(list(job.runs.values()), qrels, [parse_measure(name) for name in MEASURES]) for job in (whole, pruned))
        difference = compared(part[MEASURES[0]], full[MEASURES[0]], clusters_of(dataset, qrels))
        said, missed = described(pruned), lost(whole, pruned, options.cascade, options.confidence)
        cells = [dataset, *(f"{full.mean(name):.4f}, {part.mean(name):.4f}" for name in MEASURES)]
        cells += [f"{difference.difference:+.4f}, {difference.low:+.4f} to {difference.high:+.4f}", f"{100 * missed:.1f} % ({100 * said['lost']:.1f} %)"]
        times = [None if job.seconds is None else round(job.seconds, 1) for job in (whole, pruned)]
        print(
            "| " + " | ".join([*cells, f"{100 * said['kept']:.0f} %", ", ".join("not told" if one is None else f"{one:.0f}" for one in times)]) + " |",
            flush=True,
        )
        means = {name: {measure: scores.mean(measure) for measure in MEASURES} for name, scores in (("whole", full), ("cascade", part))}
        rows.append({"dataset": dataset, **means, "low": difference.low, "high": difference.high, "lost": missed, "said": said, "seconds": times})
    if options.json:
        made = {"command": sys.argv, "model sha256": model_hash(options.model), "scoring": SCORING, "rows": rows}
        options.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
