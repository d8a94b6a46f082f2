"""Bad input at the command line: exit code 2, one line that says what to mend, and nothing else touched."""

import gzip
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

RUN = "1 Q0 d1 1 3 bm25\n1 Q0 d2 2 2 bm25\n2 Q0 d1 1 5 bm25\n"
FILES = {
    "run.trec": RUN,
    "topics.tsv": "1\twhy do whales sleep\n2\twale\n",
    "docs.tsv": "d1\tthe whale sleeps\nd2\tder Wal\n",
    "qrels": "1 0 d1 1\n2 0 d1 0\n",
    "out.trec": "what was there before\n",
}
TEXTS = "--queries topics.tsv --docs docs.tsv"
MODEL = "--model {toy} --max-length 128 --query-tokens 20"
TARGET = "--output out.trec"


class Case(NamedTuple):
    """A command line and files on one side; on the other what the line must hold, beginning with where it points."""

    command: str
    says: tuple[str, ...]
    files: dict[str, str | bytes | None] = {}  # None: a folder
    process: bool = False


def rerank(options: str, *says: str, process: bool = False, **files: str | bytes | None) -> Case:
    """``csrerank rerank`` with what a good command has, then ``options``; ``run_trec=`` in ``files`` is the file run.trec."""
    return Case(f"rerank --run run.trec {TEXTS} {MODEL} {TARGET} {options}", says, _named(files), process)


def command(line: str, *says: str, process: bool = False, **files: str | bytes | None) -> Case:
    """Any command line."""
    return Case(line, says, _named(files), process)


def _named(files: dict[str, str | bytes | None]) -> dict[str, str | bytes | None]:
    return {name.replace("__", "-").replace("_", "."): content for name, content in files.items()}


def run_of(line: str) -> str:
    """A run whose second line is ``line``."""
    return RUN.replace("1 Q0 d2 2 2 bm25", line)


FIRST, SECOND, THIRD = "Error: run.trec:1: ", "Error: run.trec:2: ", "Error: run.trec:3: "
DEEP = '{"id": "1", "text": ' + "[" * 100_000 + "\n"
DEMO = f"rerank --run run.trec --dataset csrerank/demo/en-de {MODEL} {TARGET}"
SIDECAR = f"rerank --run run.trec {MODEL} {TARGET}"
OTHER_JOURNAL = b'{"documents": "a", "model": "b", "run": "c", "topics": "d"}\n' + bytes(40)

RUNS = {
    "five columns": rerank("", SECOND, "5 columns where a TREC run has 6", "each line needs all six", run_trec=run_of("1 Q0 d2 2 2"), process=True),
    "seven columns": rerank("", SECOND, "7 columns", "no white space inside an id", run_trec=run_of("1 Q0 d 2 2 2 bm25")),
    "NaN": rerank("", SECOND, "the score is NaN", "drop the line", run_trec=run_of("1 Q0 d2 2 NaN bm25")),
    "infinite": rerank("", SECOND, "'-inf' is infinite", "write a finite", run_trec=run_of("1 Q0 d2 2 -inf bm25")),
    "too large a number": rerank("", SECOND, "'1e999' is infinite", run_trec=run_of("1 Q0 d2 2 1e999 bm25")),
    "score a word": rerank("", SECOND, "'high' is not a number", "write a decimal", run_trec=run_of("1 Q0 d2 2 high bm25")),
    "rank a fraction": rerank("", SECOND, "'2.0' is not an integer", "write a whole number", run_trec=run_of("1 Q0 d2 2.0 2 bm25")),
    "document twice": rerank("", SECOND, "'d1' stands again", "keep one", run_trec=run_of("1 Q0 d1 2 2 bm25")),
    "topic split": rerank("", THIRD, "comes again", "sort -s -k1,1 run.trec", run_trec="1 Q0 d1 1 3 t\n2 Q0 d1 1 3 t\n1 Q0 d2 2 2 t\n"),
    "byte order mark": rerank("", FIRST, "byte order mark", "sed -i", run_trec="\ufeff" + RUN),
    "UTF-16": rerank("", FIRST, "UTF-16", "iconv -f UTF-16 -t UTF-8 run.trec", run_trec=RUN.encode("utf-16")),
    "NUL": rerank("", SECOND, "NUL byte", "convert it", run_trec=run_of("1 Q0 d\0 2 2 bm25")),
    "binary": rerank("", FIRST, "bzip2", "bunzip2", run_trec=b"BZh91AY&SY\x00\x01"),
    "Latin-1": rerank("", SECOND, "not UTF-8", "iconv -f LATIN1", run_trec=run_of("1 Q0 dé 2 2 bm25").encode("latin-1")),
    "carriage return inside": rerank("", SECOND, "carriage return", "replace it", run_trec=run_of("1 Q0 d2\r 2 2 bm25")),
    "truncated gzip": rerank("", "Error: run.trec: ", "truncated or damaged gzip", "fetch it again", run_trec=gzip.compress(RUN.encode())[:-9]),
    "empty": rerank("", "Error: run.trec: the file is empty", "check the command that wrote it", run_trec=""),
    "missing": rerank("--run none.trec", "Error: none.trec: no such file", "check the path"),
    "a folder": rerank("--run folder", "Error: folder: is a directory", "name a file in it", folder=None),
    "JSON": rerank("", FIRST, "this looks like JSON", "write it out as a TREC run", run_trec='{"1":{"d1":3}}\n'),
    "qrels for a run": rerank("", FIRST, "this looks like a qrels file", "name the run instead", run_trec="1 0 d1 1\n"),
    "MS MARCO for a run": rerank("", FIRST, "MS MARCO run", "add the literal Q0", run_trec="1\t7\t1\n"),
    "a comment": rerank("", FIRST, "looks like a comment", "remove it", run_trec="# made by me\n" + RUN),
}

TEXT_FILES = {
    "topics without a tab": rerank("", "Error: topics.tsv:2: no tab", "a TSV line is id, tab, text", topics_tsv="1\ta\n2 b\n"),
    "topic twice": rerank("", "Error: topics.tsv:2: topic '1' stands there twice", "remove one", topics_tsv="1\ta\n1\tb\n"),
    "topics empty": rerank("", "Error: topics.tsv: the file is empty", topics_tsv=""),
    "topics missing": rerank("--queries none.tsv", "Error: none.tsv: no such file", "check the path"),
    "document twice in TSV": rerank("", "Error: docs.tsv:3: document 'd1' stands there twice", "remove one", docs_tsv="d1\ta\nd2\tb\nd1\tc\n"),
    "document twice in JSONL": rerank("", "Error: docs.tsv:2: document '7' stands there twice", docs_tsv='{"id": "7", "text": "a"}\n{"id": 7, "text": "b"}\n'),
    "documents from standard input": rerank("--docs -", "Error: -: documents are looked up by id", "give a file"),
    "a window that does not fit": rerank("--window 120", "Error: --window 120", "--max-length 128 has room for 104", "give 104 or less"),
    "documents missing": rerank("--docs none.tsv", "Error: none.tsv: cannot be read", "check the path"),
    "documents a folder": rerank("--docs folder", "Error: folder: cannot be read", "check the path", folder=None),
    "documents in UTF-16": rerank("", "Error: docs.tsv:1: is UTF-16", "iconv", docs_tsv="d1\ta\n".encode("utf-16")),
    "documents in a cut gzip": rerank("", "Error: docs.tsv: truncated or damaged gzip", docs_tsv=gzip.compress(FILES["docs.tsv"].encode())[:-9]),
    "JSONL broken": rerank("", "Error: docs.tsv:2: not JSON", "one object", docs_tsv='{"id": "d1", "text": "a"}\n{"id": "d2", "text"\n'),
    "JSONL with a list": rerank("", "Error: docs.tsv:2: not a JSON object", "with an id and a text", docs_tsv='{"id": "d1", "text": "a"}\n["d2", "b"]\n'),
    "JSONL without an id": rerank("", "Error: docs.tsv:1: no id", "name it one of _id, id", docs_tsv='{"key": "d1", "text": "a"}\n'),
    "JSONL with a list for an id": rerank("", "Error: docs.tsv:1: no id", docs_tsv='{"id": ["d1"], "text": "a"}\n'),
    "JSONL without a text": rerank("", "Error: docs.tsv:1: no text", "name it one of text, contents", docs_tsv='{"id": "d1", "text": null}\n'),
    "JSONL with half a surrogate pair": rerank("", "Error: docs.tsv:1: ", "surrogate", "remove it", docs_tsv='{"id": "d1", "text": "\\ud800"}\n'),
    "JSONL nested without end": rerank("", "Error: topics.tsv:1: not JSON", topics_tsv=DEEP),
    "an id with a blank": rerank("", "Error: docs.tsv:1: the id 'd 1'", "rename it", docs_tsv="d 1\ta\n"),
    "an id with a line break": rerank("", "Error: docs.tsv:1: the id 'd\\n1'", "rename it", docs_tsv='{"id": "d\\n1", "text": "a"}\n'),
    "an id that is empty": rerank("", "Error: topics.tsv:1: the id ''", "rename it", topics_tsv="\ta\n"),
    "a document that the collection lacks": rerank("", "Error: run.trec: document 'd2'", "is not in the collection", "--missing skip", docs_tsv="d1\ta\n"),
    "a topic without a text": rerank("", "Error: run.trec: topic '2'", "has no text", "--missing skip", topics_tsv="1\ta\n"),
    "nothing in common": rerank("--missing skip", "Error: run.trec: nothing to re-rank", "check that run and collection belong together", topics_tsv="x\ta\n"),
}

DATASETS = {
    "unknown dataset": command(f"rerank --run run.trec --dataset csrerank/nope {TARGET}", "Error: unknown dataset 'csrerank/nope'", "csrerank datasets list"),
    "unknown dataset of a known kind": command(
        f"rerank --run run.trec --dataset clirmatrix/xx {TARGET}", "Error: unknown dataset 'clirmatrix/xx'", "csrerank datasets list"
    ),
    "dataset without documents": command(f"rerank --run run.trec --dataset csrerank/demo {TARGET}", "Error: csrerank/demo has no documents", "--docs FILE"),
    "dataset without queries": command(
        f"rerank --run run.trec --dataset csrerank/toy-documents {TARGET}", "Error: csrerank/toy-documents has no queries", "--queries FILE"
    ),
    "documents of another collection": command(
        DEMO, "Error: run.trec: document 'd1' is not in the collection", "belong together", run_trec="coffee-q1 Q0 d1 1 1 t\n"
    ),
    "topics of another collection": command(DEMO, "Error: run.trec: topic '1' (and 1 more) has no text", "belong together"),
    "no dataset and no sidecar": command(SIDECAR, "Error: run.trec: no texts to score", "--dataset ID"),
    "standard input and no dataset": command(f"rerank --run - {MODEL} {TARGET}", "Error: standard input: no texts to score", "--dataset ID"),
    "topics and nothing else": command(f"rerank --run run.trec --queries topics.tsv {MODEL} {TARGET}", "Error: run.trec: no texts to score", "--dataset ID"),
    "sidecar that is not YAML": command(
        SIDECAR, "Error: run.trec.ir-metadata.yml: not YAML", "mend or delete it", run_trec_ir__metadata_yml="data: [unclosed\n", process=True
    ),
    "sidecar with an impossible date": command(
        SIDECAR, "Error: run.trec.ir-metadata.yml: not YAML", "mend or delete it", run_trec_ir__metadata_yml="started: 2024-13-45\n"
    ),
    "sidecar in Latin-1": command(SIDECAR, "Error: run.trec.ir-metadata.yml: not YAML", "mend or delete it", run_trec_ir__metadata_yml=b"tag: \xe9\n"),
    "sidecar that is a list": command(SIDECAR, "Error: run.trec.ir-metadata.yml: not a mapping", "mend or delete it", run_trec_ir__metadata_yml="- a\n"),
    "sidecar that names an unknown dataset": command(
        SIDECAR, "Error: unknown dataset 'nope'", "datasets list", run_trec_ir__metadata_yml="data: {test collection: {ir_datasets: nope}}\n"
    ),
    "context that documents lack": command(
        f"rerank --run run.trec --dataset csrerank/toy-documents --context {TARGET}",
        "Error: csrerank/toy-documents: its documents carry no context",
        "leave --context out",
    ),
}

TARGETS = {
    "tag of two words": rerank("--tag 'my tag'", "Error: tag 'my tag' is not one token", "give one without white space"),
    "tag empty": rerank("--tag ''", "Error: tag '' is not one token"),
    "k 0": rerank("--k 0", "Error: --k 0", "give 1 or more"),
    "k a word": rerank("--k ten", "Error: Invalid value for '--k'", "csrerank rerank --help"),
    "output in no folder": rerank("--output none/out.trec", "Error: none/out.trec: its folder does not exist", "mkdir -p"),
    "output a folder": rerank("--output folder", "Error: folder: is a directory", "name a file in it", folder=None),
    "output under a file": rerank("--output qrels/out.trec", "Error: qrels/out.trec: "),
    "output name too long": rerank(f"--output {'a' * 300}", "Error: aaa", "cannot be written (File name too long)", "choose another file"),
    "output whose sidecar's name is too long": rerank(f"--output {'a' * 245}", "Error: aaa", ".ir-metadata.yml: cannot be written"),
    "output whose sidecar's name is too long for what is written first": rerank(
        f"--output {'a' * 236}", "Error: aaa", "this name is too long by 3 bytes", "give a shorter --output"
    ),
    "output whose sidecar is a folder": rerank("--output new.trec", "Error: new.trec.ir-metadata.yml: is a directory", new_trec_ir__metadata_yml=None),
    "output the run": rerank("--output run.trec", "Error: run.trec: the output would overwrite the run", "give another --output"),
    "output the run by another name": rerank("--output ./folder/../run.trec", "the output would overwrite the run", "give another --output", folder=None),
    "output the documents": rerank("--output docs.tsv", "Error: docs.tsv: the output would overwrite the documents", "give another --output"),
    "output the topics": rerank("--output topics.tsv", "Error: topics.tsv: the output would overwrite the topics", "give another --output"),
    "output not told, and taken": command(
        f"rerank --run run.trec {TEXTS} {MODEL}", "Error: run.reranked.trec: exists and is not csrerank's", "give --output", run_reranked_trec="mine\n"
    ),
    "journal of a stranger": rerank("", "Error: out.trec.journal: not a journal of csrerank", "move it away", out_trec_journal=b"\x00\xff mine\n"),
    "journal that is JSON of a stranger": rerank(
        "", "Error: out.trec.journal: not a journal of csrerank", "move it away", out_trec_journal='{"title": "mine"}'
    ),
    "journal that is a JSON list": rerank("", "Error: out.trec.journal: not a journal of csrerank", "move it away", out_trec_journal='["mine"]\n'),
    "journal a folder": rerank("", "Error: out.trec.journal: the journal of the job cannot be opened", "move it away", out_trec_journal=None),
    "journal of another job": rerank(
        "", "Error: out.trec.journal: left by a job with another run (c, now ", "delete the journal to start anew", out_trec_journal=OTHER_JOURNAL
    ),
}

MODELS = {
    "no such folder": rerank("--model ./none", "Error: ./none: no such model", "owner/name"),
    "no such name": rerank("--model none", "Error: none: no such model", "give 'default'"),
    "a file": rerank("--model docs.tsv", "Error: docs.tsv: a file where a model directory is needed", "give the directory"),
    "no config": rerank("--model folder", "Error: folder: no config.json", "saved by transformers", folder=None),
    "config that is not JSON": rerank("--model {badconfig}", "badconfig: cannot be loaded", "saved by transformers"),
    "a pickle only": rerank("--model {pickle}", "pickle: cannot be loaded", "with safetensors", process=True),
    "three logits": rerank("--model {three}", "three: 3 logits where a re-ranker has one or two", "give another checkpoint"),
    "a bare encoder": rerank("--model {bare}", "not a sequence-classification checkpoint", "give a cross-encoder"),
    "weights cut short": rerank("--model {corrupt}", "corrupt: cannot be loaded", "saved by transformers", process=True),
    "no tokenizer": rerank(
        "--model {notokenizer}", "Error: the tokenizer XLMRobertaTokenizer does not put special tokens", "give a checkpoint of another family"
    ),
    "weights that are not numbers": rerank("--model {nan}", "a score that is not a number", "--precision fp32"),
    "a hub name without a network": rerank("--model owner/none", "Error: owner/none: cannot be loaded", "hub name", process=True),
    "max-length above the model's": rerank("--max-length 512", "Error: --max-length 512 is more than the model's 128", "give 128 or less"),
    "max-length too small": rerank("--max-length 20", "Error: --query-tokens 20 leaves no room", "lower the one or raise the other"),
    "max-length negative": rerank("--max-length -1", "Error: --query-tokens 20 leaves no room", "raise the other"),
    "query-tokens 0": rerank("--query-tokens 0", "Error: Invalid value for '--query-tokens'", "--help"),
    "batch-tokens 0": rerank("--batch-tokens 0", "Error: Invalid value for '--batch-tokens'", "--help"),
    "stride without window": rerank("--stride 8", "Error: --stride belongs to --window", "give that too"),
    "stride 0 without window": rerank("--stride 0", "Error: --stride belongs to --window", "give that too"),
    "stride 0": rerank("--window 8 --stride 0", "Error: --window 8 with --stride 0", "between 1 and the window"),
    "stride above window": rerank("--window 8 --stride 9", "Error: --window 8 with --stride 9", "between 1 and the window"),
    "window 0": rerank("--window 0", "Error: --window 0", "between 1 and the window"),
    "window 0 with stride": rerank("--window 0 --stride 1", "Error: --window 0 with --stride 1", "between 1 and the window"),
    "device that torch does not know": rerank("--device abacus", "Error: --device abacus: torch has no such device here", "leave it out"),
    "device that is not here": rerank("--device xpu:9", "Error: --device xpu:9: torch has no such device here", "leave it out"),
    "unknown precision": rerank("--precision fp8", "Error: Invalid value for '--precision'", "--help"),
}

COMMANDS = {
    "unknown option": command("rerank --modle x", "Error: No such option", "--modle", "csrerank rerank --help", process=True),
    "unknown command": command("rerun --run run.trec", "Error: No such command 'rerun'", "csrerank --help"),
    "an argument too many": rerank("more", "Error: Got unexpected extra argument (more)", "csrerank rerank --help"),
    "option without its value": command("rerank --run", "Error: Option '--run' requires an argument", "csrerank --help"),
    "--missing with a value it does not know": rerank("--missing ignore", "Error: Invalid value for '--missing'", "csrerank rerank --help"),
    "no run": command(f"rerank {TEXTS}", "Error: no run", "give --run RUN"),
    "no run and no output": command("rerank --queries topics.tsv --index folder", "Error: --output is needed", "- for standard output", folder=None),
    "documents and index": rerank("--index folder", "Error: --docs and --index", "leave one out", folder=None),
    "analyzer without index": rerank("--analyzer de", "Error: --analyzer is for --index", "leave it out"),
    "context of a file": rerank("--context", "Error: --context is for collections", "leave it out"),
    "index missing": command(f"rerank --run run.trec --queries topics.tsv --index none {TARGET}", "Error: none: no such index", "build one"),
    "index of another kind": command(
        f"rerank --run run.trec --queries topics.tsv --index folder {TARGET}",
        "Error: folder: not a Lucene index",
        "build it",
        folder=None,
        process=True,
    ),
    "retrieve: unknown dataset": command(f"retrieve --dataset nope {TARGET}", "Error: unknown dataset 'nope'", "datasets list"),
    "retrieve: no dataset": command(f"retrieve {TARGET}", "Error: Missing option '--dataset'", "csrerank retrieve --help"),
    "retrieve: unknown analyzer": command(
        f"retrieve --dataset csrerank/demo/en-de --analyzer klingon {TARGET}", "Error: unknown analyzer 'klingon'", "known are whitespace standard"
    ),
    "retrieve: Greek, which Lucene lacks": command(
        f"retrieve --dataset csrerank/xquad-r/en-el {TARGET}", "Error: Lucene has no analyzer for Greek", "--analyzer whitespace"
    ),
    "retrieve: oracle elsewhere": command(
        f"retrieve --dataset csrerank/toy-topics --first-stage oracle {TARGET}",
        "Error: csrerank/toy-topics: --first-stage oracle needs a parallel",
        "use its scoreddocs",
    ),
    "retrieve: dense without an encoder": command(
        f"retrieve --dataset csrerank/demo/en-de --first-stage dense --encoder none {TARGET}", "Error: none: no bi-encoder there", "scripts/build_encoder"
    ),
    "retrieve: unknown first stage": command(
        f"retrieve --dataset csrerank/demo/en-de --first-stage sparse {TARGET}", "Error: Invalid value for '--first-stage'", "--help"
    ),
    "retrieve: analyzer with dense": command(
        f"retrieve --dataset csrerank/demo/en-de --first-stage dense --analyzer de {TARGET}", "Error: --analyzer is for BM25", "leave it out"
    ),
    "retrieve: k 0": command(f"retrieve --dataset csrerank/demo/en-de --k 0 {TARGET}", "Error: --k 0", "give 1 or more"),
    "retrieve: bad tag": command(f"retrieve --dataset csrerank/demo/en-de --tag 'a b' {TARGET}", "Error: tag 'a b' is not one token"),
    "retrieve: output in no folder": command(
        "retrieve --dataset csrerank/demo/en-de --output none/out.trec", "Error: none/out.trec: its folder does not exist", "mkdir -p"
    ),
    "evaluate: unknown measure": command("evaluate run.trec --qrels qrels --measures ERR@20", "Error: measure 'ERR@20': not known", "use one of RR"),
    "evaluate: no measure": command("evaluate run.trec --qrels qrels --measures ,", "Error: --measures is empty", "give some"),
    "evaluate: precision without a depth": command("evaluate run.trec --qrels qrels --measures P", "Error: measure 'P'", "write for instance P@10"),
    "evaluate: qrels with three columns": command(
        "evaluate run.trec --qrels qrels", "Error: qrels:2: 3 columns", "drop the header", qrels="1 0 d1 1\n1 d2 0\n"
    ),
    "evaluate: a run for qrels": command("evaluate run.trec --qrels run.trec", "Error: run.trec:1: 6 columns", "name the qrels instead"),
    "evaluate: grade a fraction": command(
        "evaluate run.trec --qrels qrels", "Error: qrels:1: grade '0.5' is not an integer", "write a whole number", qrels="1 0 d1 0.5\n"
    ),
    "evaluate: judged twice": command("evaluate run.trec --qrels qrels", "Error: qrels:2: ", "is judged again", "keep one", qrels="1 0 d1 1\n1 0 d1 0\n"),
    "evaluate: qrels missing": command("evaluate run.trec --qrels none", "Error: none: no such file", "check the path"),
    "evaluate: no qrels": command("evaluate run.trec", "Error: run.trec: no judgements", "give --qrels FILE"),
    "evaluate: qrels twice": command("evaluate run.trec --qrels qrels --dataset csrerank/demo/en-de", "Error: --qrels and --dataset", "leave one out"),
    "evaluate: dataset without qrels": command(
        "evaluate run.trec --dataset csrerank/toy-documents", "Error: csrerank/toy-documents has no judgements", "give --qrels FILE"
    ),
    "evaluate: run with NaN": command("evaluate run.trec --qrels qrels", SECOND, "the score is NaN", run_trec=run_of("1 Q0 d2 2 nan bm25")),
    "evaluate: second run missing": command("evaluate run.trec none.trec --qrels qrels", "Error: none.trec: no such file", "check the path"),
    "evaluate: no run": command("evaluate --qrels qrels", "Error: Missing argument 'RUNS...'", "csrerank evaluate --help"),
    "check: unknown profile": command("check run.trec --profile beir", "Error: profile 'beir' is unknown", "choose one of trec"),
    "check: qrels malformed": command("check run.trec --qrels qrels", "Error: qrels:1: 1 column", "each line needs all four", qrels="1\n"),
    "export: unknown format": command(f"export run.trec --format beir {TARGET}", "Error: profile 'beir' is unknown", "choose one of trec"),
    "export: bad tag": command(f"export run.trec --format trec --tag my-tag {TARGET}", "Error: tag 'my-tag' is not what trec asks for", "give another tag"),
    "export: breaks the rules": command(
        f"export run.trec --format miracl {TARGET}", "Error: out.trec:1: ", "document id 'd1' is not ARTICLE#PASSAGE", "use the collection's ids"
    ),
    "export: breaks the rules on standard output": command(
        "export run.trec --format miracl --output -", "Error: standard output:1: ", "use the collection's ids"
    ),
    "export: run malformed": command(f"export run.trec --format dl {TARGET}", SECOND, "'d1' stands again", run_trec=run_of("1 Q0 d1 2 2 bm25")),
    "export: no format": command(f"export run.trec {TARGET}", "Error: Missing option '--format'", "csrerank export --help"),
    "datasets: show an unknown one": command("datasets show csrerank/nope", "Error: unknown dataset 'csrerank/nope'", "csrerank datasets list"),
    "datasets: export an unknown one": command("datasets export csrerank/nope queries", "Error: unknown dataset 'csrerank/nope'", "csrerank datasets list"),
    "datasets: unknown command": command("datasets delete all", "Error: unknown datasets command 'delete'", "known are show"),
    "datasets: no command": command("datasets", "Error: give one of: list"),
    "models pack: no checkpoint": command("models pack none --output packed", "Error: none", "; "),
}

ALL = {
    f"{group}: {name}": case
    for group, cases in [("run", RUNS), ("texts", TEXT_FILES), ("dataset", DATASETS), ("target", TARGETS), ("model", MODELS), ("command", COMMANDS)]
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_encoder: Path) -> dict[str, str]:
    """A good checkpoint, ``toy``, and others that are wrong in one way each."""
    import torch
    from safetensors.torch import load_file, save_file
    from toy import build_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(toy_model, folder / name))

    build_checkpoint(folder / "three", labels=3)
    pickle = copy("pickle")
    torch.save(load_file(pickle / "model.safetensors"), pickle / "pytorch_model.bin")
    (pickle / "model.safetensors").unlink()
    corrupt = copy("corrupt") / "model.safetensors"
    corrupt.write_bytes(corrupt.read_bytes()[:5000])
    (copy("badconfig") / "config.json").write_text("{")
    for path in copy("notokenizer").glob("tokenizer*"):
        path.unlink()
    weights = copy("nan") / "model.safetensors"
    tensors = load_file(weights)
    tensors["classifier.out_proj.weight"] = tensors["classifier.out_proj.weight"] * float("nan")
    save_file(tensors, weights, {"format": "pt"})
    return {"toy": str(toy_model), "bare": str(toy_encoder)} | {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module", autouse=True)
def toy_datasets() -> None:
    """Two datasets that lack something."""
    from ir_datasets.formats import GenericDoc, GenericQuery

    from csrerank.collections.catalogue import MemoryDocs, MemoryQueries, register_once

    documents = MemoryDocs(lambda: [GenericDoc("d1", "a")], "toy", "en")
    register_once("toy-documents", documents)
    register_once("toy-topics", documents, MemoryQueries(lambda: [GenericQuery("1", "a")], "toy", "en"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Fails the test where Python would show a warning to a user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    hidden = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    assert [str(warning.message) for warning in caught if not issubclass(warning.category, hidden)] == []


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below ``folder``; None for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def lay_out(folder: Path, files: dict[str, str | bytes | None]) -> None:
    for name, content in (FILES | files).items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def run_here(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """The command line in this process: exit code, standard output and standard error."""
    from csrerank.cli import run_command

    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_command(arguments)
    return (ended.value.code, *capfd.readouterr())


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_bad_input(case: Case, workplace: Path, checkpoints: dict[str, str], cli, capfd: pytest.CaptureFixture[str]) -> None:
    lay_out(workplace, case.files)
    before = content_of(workplace)
    arguments = [word.format_map(checkpoints) if word.startswith("{") else word for word in shlex.split(case.command)]
    if case.process:
        done = cli(*arguments, cwd=workplace, timeout=600)
        code, out, err = done.returncode, done.stdout, done.stderr
    else:
        code, out, err = run_here(arguments, capfd)
    assert code == 2, err
    assert out == ""
    assert err.startswith("Error: ") and err.endswith("\n") and err.count("\n") == 1, err
    at = -1
    for words in case.says:
        assert words in err[max(at, 0) :], f"{words!r} should come in {err!r}"
        at = err.index(words, max(at, 0))
    assert len(err) < 700
    assert content_of(workplace) == before


@pytest.mark.parametrize(("line", "says"), [("1 Q0 d2 2 2", "5 columns"), ("1 Q0 d2 2 NaN t", "the score is NaN"), ("1 Q0 d1 2 2 t", "stands again")])
def test_a_bad_run_on_standard_input(line: str, says: str, workplace: Path, checkpoints: dict[str, str], cli) -> None:
    lay_out(workplace, {})
    before = content_of(workplace)
    arguments = [word.format_map(checkpoints) for word in shlex.split(rerank("--run - --output -").command)]
    done = cli(*arguments, input=run_of(line), cwd=workplace, timeout=600)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("Error: standard input:2: ") and says in done.stderr, done.stderr
    assert content_of(workplace) == before


def test_there_are_enough_cases() -> None:
    assert len(ALL) >= 50 and sum(case.process for case in ALL.values()) >= 5


def test_the_same_command_without_the_fault_works(workplace: Path, checkpoints: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise the cases above could all fail for another reason than theirs."""
    lay_out(workplace, {})
    arguments = [word.format_map(checkpoints) for word in shlex.split(rerank("").command)]
    code, out, err = run_here(arguments, capfd)
    assert (code, out) == (0, "") and err.startswith("out.trec: 2 topics, 3 pairs re-ranked"), err
    assert sorted(set(content_of(workplace)) - set(FILES)) == ["out.trec.ir-metadata.yml"]


def test_an_index_of_bad_documents_leaves_nothing_in_the_cache(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from csrerank.cache import cache_folder

    lay_out(workplace, {"docs.tsv": "d1\tonly here\nd1\tonly here\n"})
    before = content_of(cache_folder())
    assert run_here(shlex.split(f"rerank --run run.trec {TEXTS} {TARGET}"), capfd)[0] == 2
    assert [name for name, content in content_of(cache_folder()).items() if name not in before and content is not None] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(workplace: Path, checkpoints: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    lay_out(workplace, {"folder": None})
    (workplace / "folder").chmod(0o500)
    code, _, err = run_here(shlex.split(rerank("--output folder/out.trec").command.format_map(checkpoints)), capfd)
    assert code == 2 and err == "Error: folder/out.trec: no permission to write in its folder; choose another folder\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk(workplace: Path, checkpoints: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    lay_out(workplace, {})
    code, out, err = run_here([word.format_map(checkpoints) for word in shlex.split(rerank("--output /dev/full").command)], capfd)
    assert (code, out) == (2, "") and err == "Error: /dev/full: no space left on the disk; free some and run again\n"
    assert not list(Path("/dev").glob("full.*"))


@pytest.mark.parametrize("arguments", [[], ["models"]])
def test_no_command_gives_the_help(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_here(arguments, capfd)
    assert (code, out) == (2, "") and err.startswith("Usage: csrerank") and "Commands:" in err and err.count("\n") > 5
