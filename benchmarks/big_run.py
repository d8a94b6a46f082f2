"""Memory and time of ``csrerank rerank`` on large runs, and what the journal costs.

    python benchmarks/big_run.py [--topics 100,1000,6980] [--depth 1000] [--killed-up-to 1000] [--documents 200000] [--json FILE]

Writes synthetic topics, documents and runs to a temporary folder and re-ranks each run whole, in a process of its own, with a model so small that the rest of the
work shows: what is read, looked up, tokenised, assembled, kept in the journal and written. Runs of --killed-up-to topics or fewer are done again, killed at about half
and gone on with, which must give the same bytes; what that took more is what resuming costs (a second start and a second reading of the run and of all its texts included).
Both costs are given in seconds, as a share of this job, and as a share of one whose model scores --rate pairs a second (the default model's rate on two cores).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = 2000
# The command, with the time spent in the journal.
TIMED = """
import atexit, json, sys, time
from csrerank import journal
from csrerank.cli import run_command
add, spent = journal.Journal.add, [0.0, 0]
def timed(self, *arguments):
    start = time.perf_counter()
    add(self, *arguments)
    spent[0] += time.perf_counter() - start
    spent[1] += 1
journal.Journal.add = timed
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 2**20
atexit.register(lambda: print(json.dumps({"journal": spent[0], "windows": spent[1], "peak": peak()})))
run_command(sys.argv[1:])
"""


def checkpoint(folder: Path, words: list[str]) -> None:
    """A cross-encoder of one layer of 16, with a piece for each word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForSequenceClassification

    pieces = {piece: at for at, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(pieces, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, model_input_names=["input_ids", "attention_mask"], **special).save_pretrained(
        folder
    )
    config = XLMRobertaConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, max_position_embeddings=66, type_vocab_size=1, num_labels=1,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        XLMRobertaForSequenceClassification(config).save_pretrained(folder)


def write_run(path: Path, topics: int, depth: int, documents: int) -> None:
    """Each topic's documents lie scattered over the collection."""
    with path.open("w") as file:
        for topic in range(topics):
            for rank in range(depth):
                file.write(f"q{topic} Q0 d{(topic * 7919 + rank * 104729) % documents} {rank + 1} {depth - rank} synthetic\n")


def measured(folder: Path, topics: int, depth: int, kill: bool, rate: float) -> dict[str, float]:
    """One job: seconds, peak memory, and the journal's part."""
    command = ["rerank", "--run", "run.trec", "--queries", "topics.tsv", "--docs", "docs.tsv", "--model", "model", "--max-length", "64", "--query-tokens", "16"]
    command += ["--k", str(depth), "--precision", "fp32", "--output", "out.trec", "--quiet"]
    environment = {**os.environ, "CSRERANK_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", TIMED, *command], cwd=folder, stdout=subprocess.PIPE, env=environment, check=True).stdout
    seconds = time.perf_counter() - start
    journal, lines = json.loads(said), topics * depth
    whole = (folder / "out.trec").read_bytes()
    found: dict[str, float] = {"topics": topics, "lines": lines, "seconds": seconds, "lines a second": lines / seconds, "peak GiB": journal["peak"]}
    found |= {
        "journal seconds": journal["journal"],
        "journal share": journal["journal"] / seconds,
        "journal share at the rate": journal["journal"] * rate / lines,
    }
    found |= {"journal ms a window": 1000 * journal["journal"] / journal["windows"]}
    if not kill:
        return found
    # Killed at about half, and gone on with.
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", TIMED, *command], cwd=folder, stdout=subprocess.DEVNULL, env=environment)
    while process.poll() is None and _size(folder / "out.trec.journal") < 2 * lines:
        time.sleep(0.01)
    process.kill()
    process.wait()
    subprocess.run([sys.executable, "-c", TIMED, *command], cwd=folder, stdout=subprocess.DEVNULL, env=environment, check=True)
    resumed = time.perf_counter() - start
    if (folder / "out.trec").read_bytes() != whole:
        sys.exit("the job that was killed and gone on with wrote other bytes")
    return found | {"resume seconds": resumed - seconds, "resume share": resumed / seconds - 1, "resume share at the rate": (resumed - seconds) * rate / lines}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", default="100,1000,6980")
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--killed-up-to", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=45.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    words = [f"w{number}" for number in range(WORDS)]
    draw = random.Random(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint(folder / "model", [*words, "a", "b", "c"])  # csrerank learns from these where a tokenizer puts its special tokens
        with (folder / "docs.tsv").open("w") as file:
            for document in range(options.documents):
                file.write(f"d{document}\t{' '.join(draw.choices(words, k=20))}\n")
        counts = [int(count) for count in options.topics.split(",")]
        with (folder / "topics.tsv").open("w") as file:
            for topic in range(max(counts)):
                file.write(f"q{topic}\t{' '.join(draw.choices(words, k=6))}\n")
        write_run(folder / "run.trec", 1, 10, options.documents)
        measured(folder, 1, 10, False, options.rate)  # the documents' index is made once, before
        for count in counts:
            write_run(folder / "run.trec", count, options.depth, options.documents)
            rows.append(measured(folder, count, options.depth, count <= options.killed_up_to, options.rate))
            print(", ".join(f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value:,}" for name, value in rows[-1].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
