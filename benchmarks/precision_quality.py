"""Does ``mixed`` rank as exact scores do? The same runs re-ranked in both, measured.

    python benchmarks/precision_quality.py [--datasets csrerank/xquad-r/en-en,csrerank/xquad-r/en-de] [--topics 300] [--after N] [--k 50] [--json FILE]

Runs are the encoder's dense ranking (`scripts/build_encoder` makes the encoder). Topics are fixed by a hash, as those of ``csrerank reproduce``. Printed are the measures
of both, and the difference in RR@10 with its 95 % interval (resampled by article) and whether it is equivalent within the margin (two one-sided tests).
What was ranked stays under --work, so that a killed call goes on where it was; exact runs are shared with `interpolation.py`.
"""

import argparse
import json
import sys

from ranking import add_options, checked, judged, model_hash, ranked

from csrerank.evaluation.clusters import clusters_of
from csrerank.evaluation.equivalence import equivalent
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.evaluation.significance import compared
from csrerank.models.calibration import VERSION
from csrerank.models.precision import FEW
from csrerank.rerank import SCORING

TRACKS = ("en-en", "en-de", "en-ar", "en-ru", "de-ru", "ar-ru", "x4-en", "en-x4", "x4-x4")
MEASURES = ("RR@10", "nDCG@10", "AP")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=",".join(f"csrerank/xquad-r/{track}" for track in TRACKS))
    parser.add_argument("--exact", default="fp32", choices=["fp32", "bf16"], help="what is compared with mixed")
    parser.add_argument("--margin", type=float, default=0.003)
    add_options(parser, topics=300, k=50)
    options = checked(parser)
    if options.k <= FEW:
        parser.error(f"--k {options.k}: mixed computes no integers for {FEW} candidates or fewer; give more")
    rows = []
    heads = ["topics and documents", *(f"{name} {options.exact}, mixed" for name in MEASURES), f"{MEASURES[0]} difference, 95 % interval"]
    print("| " + " | ".join([*heads, f"within {options.margin:g}"]) + " |\n" + "|---" * (len(heads) + 1) + "|", flush=True)
    for dataset in options.datasets.split(","):
        qrels = judged(dataset, options)
        exact, mixed = (
            evaluate(list(ranked(dataset, options, precision)[1].values()), qrels, [parse_measure(name) for name in MEASURES])
            for precision in (options.exact, "mixed")
        )
        clusters = clusters_of(dataset, qrels)
        difference = compared(mixed[MEASURES[0]], exact[MEASURES[0]], clusters)
        same = equivalent(mixed[MEASURES[0]], exact[MEASURES[0]], clusters, options.margin)
        cells = [dataset, *(f"{exact.mean(name):.4f}, {mixed.mean(name):.4f}" for name in MEASURES)]
        print("| " + " | ".join([*cells, f"{difference.difference:+.4f}, {difference.low:+.4f} to {difference.high:+.4f}", same.verdict]) + " |", flush=True)
        means = {precision: {name: scores.mean(name) for name in MEASURES} for precision, scores in ((options.exact, exact), ("mixed", mixed))}
        rows.append({"dataset": dataset, **means, "low": difference.low, "high": difference.high, "within the margin": same.verdict})
    if options.json:
        made = {"command": sys.argv, "model sha256": model_hash(options.model), "scoring": SCORING, "integers": VERSION, "rows": rows}
        options.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
