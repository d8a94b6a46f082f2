"""The command ``csrerank fairness``."""

import click


@click.command("fairness")
@click.argument("runs", nargs=-1, required=True)
@click.option("--dataset", help="ir_datasets id of an MLIR track: judgements and languages.  [default: the one that the runs' metadata names]")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Look at this many documents of each topic.")
@click.option("--format", "form", type=click.Choice(["table", "tsv", "json"]), default="table", show_default=True)
def fairness_command(runs: tuple[str, ...], dataset: str | None, k: int, form: str) -> None:
    """Whether documents of all languages have the same chance: PEER, and each language's share of the top K.

    \b
    csrerank fairness bm25.trec better.trec
    csrerank fairness bm25.trec --dataset csrerank/xquad-r/x4-x4 --k 20 --format tsv
    """
    from csrerank.evaluation.fairness_table import fairness_table

    click.echo(fairness_table(runs, dataset, k, form))
