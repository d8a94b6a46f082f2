"""How long ``csrerank rerank`` takes on a short run, and how much of it passes before the first scores.

    python benchmarks/start_up.py [--topics 10] [--k 100] [--rounds 5] [--model default] [--json FILE]

The run is the first --topics topics of XQuAD-R's English-German track with the German sentences of their --k best English ones. Each round is a process of its own, from
its start to its end. The model is unpacked and ``--precision auto`` decided already; with ``--first`` each round has an empty cache of its own, so that both are done in it.
With ``--cold`` the system forgets the contents of Python's environment and of the cache before each round, and reads them from disk again.
Printed are medians over rounds, in seconds: to the first batch of scores, and whole.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATASET = "csrerank/xquad-r/en-de"
# The command, with the moment of the first scores.
TIMED = """
import atexit, json, sys, time
from csrerank.cli import run_command
from csrerank.models.reranker import Reranker
computing, first = Reranker._computing, []
def timed(self, precision):
    compute = computing(self, precision)
    def computed(rows):
        found = compute(rows)
        first or first.append(time.time())
        return found
    return computed
Reranker._computing = timed
start = float(sys.argv.pop(1))
atexit.register(lambda: print(json.dumps(first[0] - start)))
run_command(sys.argv[1:])
"""


def forget(folder: Path) -> None:
    """Have the system drop what it holds of the files under ``folder``."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(run: Path, model: str, precision: str, k: int, cache: Path | None) -> tuple[float, float]:
    """Seconds to the first scores, and in all."""
    command = [
        "rerank",
        "--run",
        str(run),
        "--dataset",
        DATASET,
        "--model",
        model,
        "--precision",
        precision,
        "--k",
        str(k),
        "--output",
        str(run.with_name("out.trec")),
        "--quiet",
    ]
    start = time.time()
    said = subprocess.run(
        [sys.executable, "-c", TIMED, str(start), *command],
        stdout=subprocess.PIPE,
        env=os.environ | ({"CSRERANK_CACHE": str(cache)} if cache else {}),
        check=True,
    ).stdout
    return json.loads(said), time.time() - start


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="default")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--first", action="store_true", help="each round with an empty cache")
    parser.add_argument("--cold", action="store_true", help="each round with files read from disk")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from csrerank.cache import cache_folder
    from csrerank.trec import read_run, write_run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, run = folder / "whole.trec", folder / "run.trec"
        retrieve = ["retrieve", "--dataset", DATASET, "--first-stage", "oracle", "--k", str(options.k), "--output", str(whole), "--quiet"]
        subprocess.run([sys.executable, "-m", "csrerank", *retrieve], check=True)
        write_run(run, list(read_run(whole))[: options.topics])
        timed(run, options.model, options.precision, options.k, None)
        rounds = []
        for turn in range(options.rounds):
            if options.cold:
                forget(Path(sys.prefix))
                forget(cache_folder())
            rounds.append(timed(run, options.model, options.precision, options.k, folder / f"cache-{turn}" if options.first else None))
    first, all_of_it = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"{options.topics} topics x {options.k}: first scores after {first:.1f} s, whole {all_of_it:.1f} s (medians of {options.rounds})")
    if options.json:
        options.json.write_text(json.dumps({"command": sys.argv, "first": [one for one, _ in rounds], "whole": [one for _, one in rounds]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
