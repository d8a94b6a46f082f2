"""The command ``csrerank translate``."""

from pathlib import Path

import click

from csrerank.training.translations import SIDES


@click.command("translate")
@click.option("--dataset", required=True, help="A plain training dataset, as csrerank/en-qa/train.")
@click.option("--command", required=True, help="Program that translates line by line, as 'apertium -u eng-spa'.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="JSONL of id, side and text to write.")
@click.option("--side", type=click.Choice([*SIDES, "both"]), default="both", show_default=True, help="Topics, documents, or both.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def translate_command(dataset: str, command: str, output: Path, side: str, quiet: bool) -> None:
    """Translate training texts with a program of yours, for csrerank train --translations.

    \b
    csrerank translate --dataset csrerank/en-qa/train --command 'apertium -u eng-spa' --output es.jsonl

    The program gets an empty line between two texts, which ends a sentence for Apertium. Killed at any moment, the same command goes on where it was.
    """
    from csrerank.training.translating import translate_dataset

    counts = translate_dataset(dataset, command, output, SIDES if side == "both" else (side,), quiet)
    if not quiet:
        click.echo(f"{output}: {' and '.join(f'{count} {name} texts' for name, count in counts.items())}", err=True)
