"""The command ``csrerank switch``."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from csrerank.errors import InputError

SHOWN = 5


@click.command("switch")
@click.option("--dataset", help="ir_datasets id with docs or queries; or a switched id of csrerank's, such as csrerank/en-qa/train/ml-cs, without --policy.")
@click.option("--input", "folder", help="In place of --dataset: folder of Parquet files with columns doc_id and text, or query_id and text.")
@click.option("--policy", help="Policy: ml-cs, bl-cs/en-de (query and passage language), wiki-cs, ... or a YAML file.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--show",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=SHOWN,
    metavar="[N]",
    help=f"Print N switched pairs ({SHOWN} where N is left out) in place of writing.",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True, help="For --show: colours; auto: on a terminal.")
@click.option("--seed", type=click.IntRange(min=0), help="What keys the draws, with the records' ids.  [default: 2023, or the switched id's]")
@click.option("--epoch", type=click.IntRange(min=0), help="Another epoch draws anew.  [default: 0, or the switched id's]")
@click.option("--parts", help="Of docs,queries,qrels,docpairs.  [default: all that the dataset has]")
@click.option("--format", type=click.Choice(["tsv", "jsonl", "parquet"]), default="parquet", show_default=True)
@click.option("--no-records", is_flag=True, help="Leave out which words were switched.")
@click.option("--shard-size", type=click.IntRange(min=1), default=20_000, show_default=True, help="Records a file.")
@click.option("--engine", type=click.Choice(["process", "ray"]), default="process", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: 1; with ray, all processors]")
@click.option("--address", help="For ray: a running cluster, whose machines see --output.  [default: start one here]")
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def switch_command(output: Path | None, show: int | None, color: str, quiet: bool, **given: Any) -> None:
    """Write a code-switched collection as files with a data card, or look at a few switched pairs.

    \b
    csrerank switch --dataset csrerank/en-qa/train --policy ml-cs --show
    csrerank switch --dataset csrerank/en-qa/train --policy ml-cs --output switched --workers 2
    csrerank switch --input shards --policy bl-cs/en-de --output switched --engine ray

    Killed at any moment, the same command goes on where it was. Whatever writes them, and in however many processes, the files are the same byte for byte.
    """
    from csrerank.switching.job import requested

    request = requested(given["dataset"], given["folder"], given["policy"], given["seed"], given["epoch"])
    if (output is None) == (show is None):
        raise InputError("give either --output FOLDER or --show")
    if show is not None:
        from csrerank.switching.show import shown_pairs

        colour = color == "always" or (color == "auto" and sys.stdout.isatty())
        for line in shown_pairs(request, show, colour):
            click.echo(line, color=colour)
        return
    from csrerank.switching.engines import engine_named
    from csrerank.switching.writing import planned, write_collection

    parts = tuple(given["parts"].split(",")) if given["parts"] else None
    engine = engine_named(given["engine"], given["workers"], given["address"])
    job = planned(request, Path(os.path.abspath(str(output))), given["format"], not given["no_records"], given["shard_size"], parts, quiet)
    report = write_collection(job, engine, quiet, {"engine": given["engine"], "workers": given["workers"]})
    if not quiet:
        click.echo(report.summary(output), err=True)  # type: ignore[arg-type]
