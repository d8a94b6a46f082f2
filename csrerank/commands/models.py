"""The command ``csrerank models compare``."""

import click


@click.command("compare")
@click.argument("names", nargs=-1, required=True)
@click.option("--text", "given", multiple=True, metavar="LANG=FILE", help="Text to count pieces on, once a language.  [default: the demo collection]")
@click.option("--tokens", type=click.IntRange(min=16), default=128, show_default=True, help="Tokens of each pair that is timed.")
@click.option("--seconds", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Seconds to time each model for.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="auto: bf16 where the processor has it.")
@click.option("--device", help="torch device.  [default: cuda if there is one, else cpu]")
@click.option("--format", "form", type=click.Choice(["table", "tsv", "json"]), default="table", show_default=True)
def compare_command(names: tuple[str, ...], given: tuple[str, ...], tokens: int, seconds: float, precision: str, device: str | None, form: str) -> None:
    """Parameters, layers, pairs a second here, and pieces a word by language, of encoders and cross-encoders.

    \b
    csrerank models compare default my-encoder
    csrerank models compare default owner/name --text de=zeitung.txt --tokens 256 --format tsv
    """
    from csrerank.models.compare import compare, demo_texts, read_texts, shown
    from csrerank.request import check_device

    check_device(device)
    texts = read_texts(given) if given else demo_texts()
    click.echo(shown(list(compare(names, texts, tokens, seconds, precision, device)), form))
