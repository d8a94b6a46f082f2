"""The command ``csrerank reproduce``."""

from pathlib import Path

import click

from csrerank.errors import InputError
from csrerank.experiments.scale import SCALES
from csrerank.experiments.tracks import COLLECTIONS


@click.command("reproduce")
@click.option("--collection", type=click.Choice(COLLECTIONS), default="xquad-r", show_default=True)
@click.option(
    "--systems",
    default="zero-shot,ml-cs",
    show_default=True,
    help="Rows: zero-shot, fine-tuning, bl-cs, ml-cs, wiki-cs, zero-shot+tt, ml-cs+tt; bl-cs/PAIR, ml-cs@P, bl-cs/PAIR@P; model:DIR for a checkpoint.",
)
@click.option("--seeds", show_default="1", help="Of the trainings, with commas between them.")
@click.option("--tracks", help="Columns, with commas between them.  [default: a few at --scale small, all at full]")
@click.option("--first-stage", default="dense", show_default=True, help="Candidates: dense, oracle, or both with a comma between them.")
@click.option(
    "--scale", type=click.Choice(list(SCALES)), default="small", show_default=True, help="small: 300 topics, 50 candidates, 10,000 questions to train on."
)
@click.option("--base", type=click.Path(path_type=Path), help="Encoder to start from.  [default: what scripts/build_encoder made]")
@click.option(
    "--encoder",
    type=click.Path(path_type=Path),
    help="Bi-encoder for dense candidates and for trainings to learn from.  [default: what scripts/build_encoder made]",
)
@click.option("--translations", type=click.Path(path_type=Path), help="For fine-tuning: the training texts translated, as csrerank train takes them.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/matrix"), show_default=True, help="Where the cells go.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/matrix"), show_default=True, help="Where models and first-stage runs go.")
@click.option("--device", help="torch device to rank on; training always takes cuda if there is one.  [default: cuda if there is one, else cpu]")
@click.option("--cards", is_flag=True, help="Write each model's results into the model card in its directory.")
@click.option("--dry-run", is_flag=True, help="List the cells with roughly estimated times; train and rank nothing.")
@click.option("--tables", "only_tables", is_flag=True, help="Print the tables of the cells that are there; train and rank nothing.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def reproduce_command(
    collection: str, systems: str, seeds: str | None, tracks: str | None, first_stage: str, scale: str, base: Path | None, encoder: Path | None, output: Path, work: Path, device: str | None,
    translations: Path | None, cards: bool, dry_run: bool, only_tables: bool, quiet: bool,
) -> None:  # fmt: skip
    """Train, re-rank, score and test, and print the paper's tables.

    \b
    csrerank reproduce --collection xquad-r --systems zero-shot,ml-cs --seeds 1 --scale small
    csrerank reproduce --systems zero-shot,bl-cs,ml-cs,wiki-cs,zero-shot+tt,ml-cs+tt --seeds 1,2,3 --scale full --dry-run
    csrerank reproduce --systems zero-shot,ml-cs,model:default --tables

    Killed at any moment, the same command goes on with the cells that are missing.
    """
    from csrerank.cache import cache_folder
    from csrerank.experiments import reproduce as job
    from csrerank.experiments.systems import are_trained

    rows = job.names(systems, "--systems")
    if seeds is not None and not are_trained(rows):
        raise InputError(f"--seeds {seeds}: --systems names checkpoints alone, which are not trained here; leave it out")
    matrix = job.Matrix(
        collection, rows, job.seeds("1" if seeds is None else seeds), job.names(tracks, "--tracks") if tracks is not None else None,
        job.names(first_stage, "--first-stage"), scale, base or cache_folder() / "encoder", device, translations,
        encoder or cache_folder() / "encoder",
    )  # fmt: skip
    if dry_run and only_tables:
        raise InputError("--dry-run and --tables: one lists what would be made, the other prints what is there; give one")
    if cards and (dry_run or only_tables):
        raise InputError("--cards writes what was measured, which --dry-run and --tables do not do; leave one of them out")
    if only_tables:
        click.echo(job.tabled(matrix, output, work))
        return
    if dry_run:
        click.echo(job.listed(matrix, output, work))
        return
    made = job.reproduce(matrix, output, work, cache=cache_folder(), cards=cards, quiet=quiet, say=lambda line: None if quiet else click.echo(line, err=True))
    click.echo(made.tables)
    if not quiet:
        click.echo(f"{made.computed} cells computed, {made.kept} kept", err=True)
