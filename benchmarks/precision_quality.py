"""Does ``mixed`` rank as exact scores do? The same runs re-ranked in both, measured.

    python benchmarks/precision_quality.py [--tracks en-en,en-de] [--topics 100] [--k 100] [--json FILE]

Runs are the encoder's dense ranking of XQuAD-R (`scripts/build_encoder` makes the encoder), cut to the first of --topics by a hash of their ids. What was re-ranked
stays under --work, so that a killed call goes on where it was.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.evaluation.scoring import dataset_qrels
from csrerank.metadata import sidecar
from csrerank.models.checkpoint import directory_hash, find_model
from csrerank.models.precision import FEW
from csrerank.rerank import SCORING
from csrerank.trec import read_run, write_run

TRACKS = "en-en,en-de,en-ar,en-ru,de-ru,ar-ru,x4-en,en-x4,x4-x4"
MEASURES = ("RR@10", "nDCG@10", "nDCG@20", "AP")


def csrerank(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "csrerank", *map(str, words), "--quiet"], check=True)


def first_stage(track: str, options: argparse.Namespace) -> Path:
    """The run to re-rank."""
    whole, cut = (options.work / f"{track}.{options.k}.{name}.trec" for name in ("whole", str(options.topics)))
    if not whole.exists():
        csrerank("retrieve", "--dataset", f"csrerank/xquad-r/{track}", "--first-stage", "dense", "--k", options.k, "--output", whole)
    rankings = sorted(read_run(whole), key=lambda ranking: hashlib.sha256(ranking.topic.encode()).digest())
    write_run(cut, rankings[: options.topics])
    return cut


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", default=TRACKS)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--model", default="default")
    parser.add_argument("--exact", default="fp32", help="what is compared with mixed")
    parser.add_argument("--work", type=Path, default=Path("build/precision"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.k <= FEW:
        parser.error(f"--k {options.k}: mixed computes no integers for {FEW} candidates or fewer; give more")
    options.work.mkdir(parents=True, exist_ok=True)
    model = f"{directory_hash(Path(find_model(options.model)))[:12]}.scoring-{SCORING}"
    rows = []
    print("| track | " + " | ".join(f"{name} {options.exact}, mixed, difference" for name in MEASURES) + " |")
    print("|---|" + "---|" * len(MEASURES), flush=True)
    for track in options.tracks.split(","):
        run, dataset = first_stage(track, options), f"csrerank/xquad-r/{track}"
        topics = {ranking.topic for ranking in read_run(run)}
        qrels = {topic: judged for topic, judged in dataset_qrels(dataset).items() if topic in topics}
        row: dict[str, object] = {"track": track}
        for precision in (options.exact, "mixed"):
            output = run.with_suffix(f".{model}.{precision}.trec")
            if not sidecar(output).exists():
                csrerank("rerank", "--run", run, "--dataset", dataset, "--model", options.model, "--k", options.k, "--precision", precision, "--output", output)
            scores = evaluate(read_run(output), qrels, [parse_measure(name) for name in MEASURES])
            row[precision] = {name: scores.mean(name) for name in MEASURES}
        rows.append(row)
        pairs = [(row[options.exact][name], row["mixed"][name]) for name in MEASURES]  # type: ignore[index]
        print(f"| {track} | " + " | ".join(f"{exact:.4f}, {mixed:.4f}, {mixed - exact:+.4f}" for exact, mixed in pairs) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"command": sys.argv, "topics": options.topics, "k": options.k, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
