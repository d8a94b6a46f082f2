"""How fast ML-CS switches, in words a second on one core, beside a straightforward implementation of the reference's loop.

    python benchmarks/switching.py [--rounds 5] [--json FILE] [--engines]

Both switch the paragraphs of csrerank/en-qa/train by ML-CS (p = .5; de ru ar nl it) with the same lexicons, in turns; words are counted by white space; the
medians are printed. ``--engines`` also times ``csrerank switch`` as a whole process: one process, and Ray on two cores.
"""

import argparse
import json
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PASSAGES = 8_841_823  # of MS MARCO (Bajaj et al. 2016)
COPIES = 10  # of the paragraphs, for the engines
WORDS = 56  # a passage there, by white space (55.98 in table 1 of Thakur et al. 2021)
LANGUAGES = ("de", "ru", "ar", "nl", "it")


def reference(texts: list[str], words: dict[str, dict[str, str]]) -> None:
    """What the reference does, written anew: Treebank tokens, one random language and one look-up in a dictionary a token, joined by spaces."""
    from nltk.tokenize import TreebankWordTokenizer

    tokenizer, languages, draw = TreebankWordTokenizer(), list(words), random.Random(1)
    for text in texts:
        switched = []
        for token in tokenizer.tokenize(text):
            if draw.random() < 0.5:
                token = words[draw.choice(languages)].get(token.lower(), token)
            switched.append(token)
        " ".join(switched)


def ours(texts: list[str], given: object) -> None:
    """csrerank's switch, records included."""
    from csrerank.codeswitch import Policy, switch

    policy = Policy.load("ml-cs")
    for number, text in enumerate(texts):
        switch(text, str(number), policy, given, 1)  # type: ignore[arg-type]


def timed(work: Callable[[], None]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def engines(texts: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of wall time that the whole ``csrerank switch`` takes by engine, for one and for three times ``COPIES`` copies of the texts, from Parquet to
    Parquet. What the two differ by is the work without the start.
    """
    engine = {"one process": ("process", "1"), "Ray, two cores": ("ray", "2")}
    seconds: dict[str, dict[int, list[float]]] = {name: {1: [], 3: []} for name in engine}
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 3):
            _write_shards(texts, COPIES * times, Path(folder) / f"input{times}")
        for _ in range(rounds):
            for times in (1, 3):
                for name, (kind, workers) in engine.items():
                    command = [sys.executable, "-m", "csrerank", "switch", "--input", f"{folder}/input{times}", "--policy", "ml-cs", "--shard-size", "10000"]
                    start = time.perf_counter()
                    subprocess.run([*command, "--engine", kind, "--workers", workers, "--output", f"{folder}/out", "--quiet"], check=True)
                    seconds[name][times].append(time.perf_counter() - start)
                    shutil.rmtree(f"{folder}/out")
    return {name: {f"{COPIES * times} copies": statistics.median(values) for times, values in found.items()} for name, found in seconds.items()}


def _write_shards(texts: list[str], copies: int, folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    for copy in range(copies):
        table = pyarrow.table({"doc_id": [f"{copy}-{number}" for number in range(len(texts))], "text": texts})
        pyarrow.parquet.write_table(table, folder / f"part-{copy:05}.parquet")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("--engines", action="store_true")
    arguments = parser.parse_args()

    from csrerank.codeswitch import Lexicons, Policy
    from csrerank.collections import en_qa

    texts = [passage.text for passage in en_qa.passages_of(en_qa.part(en_qa.CORE, "train"))]
    count = sum(len(text.split()) for text in texts)
    lexicons, rule = Lexicons(), Policy.load("ml-cs").passage.rules[0]
    words = {lang: {key: found.translations(key)[0].text for key in found} for lang in LANGUAGES for found in [lexicons.find(rule.lexicon, "en", lang)]}
    rates: dict[str, list[float]] = {"csrerank": [], "reference's loop": []}
    for _ in range(arguments.rounds):
        rates["csrerank"].append(count / timed(lambda: ours(texts, lexicons)))
        rates["reference's loop"].append(count / timed(lambda: reference(texts, words)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"{len(texts)} paragraphs, {count} words, ML-CS p = .5, {len(LANGUAGES)} languages, {arguments.rounds} rounds, {platform.processor() or platform.machine()}"
    )
    for name, rate in medians.items():
        print(f"{name:20} {rate / 1e6:6.2f} million words/s (processor time, one core; {min(rates[name]) / 1e6:.2f} to {max(rates[name]) / 1e6:.2f})")
    minutes = PASSAGES * WORDS / medians["csrerank"] / 60
    print(f"MS MARCO, extrapolated: {PASSAGES} passages of {WORDS} words: {minutes:.1f} minutes on one core, reading and writing left out")
    wall = engines(texts, arguments.rounds) if arguments.engines else {}
    for name, by_size in wall.items():
        print(f"csrerank switch, {name}: {', '.join(f'{size} {seconds:.1f} s' for size, seconds in by_size.items())}")
    if wall:
        (alone, both), (alone_less, both_less) = ([list(found.values())[place] for found in wall.values()] for place in (1, 0))
        print(f"Ray on two cores over one process: {alone / both:.2f} times with its start, {(alone - alone_less) / (both - both_less):.2f} times without")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"words": count, "words_per_second": rates, "msmarco_minutes": minutes, "engine_seconds": wall}, indent=1))


if __name__ == "__main__":
    main()
