"""The commands ``csrerank lexicon quality`` and ``induce``."""

from pathlib import Path

import click

from csrerank.errors import InputError


def _ranks(text: str) -> tuple[int, int]:
    first, hyphen, last = text.partition("-")
    if not (hyphen and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise InputError(f"--ranks {text}: give two places, the first from 0 and the lower one, as 5000-6500")
    return int(first), int(last)


@click.command("quality")
@click.argument("names", nargs=-1, required=True)
@click.option("--languages", required=True, help="Target languages, with commas between them.")
@click.option("--gold", default="muse", show_default=True, help="muse, or a file of lines with a word and its translation; {lang} in its name for several.")
@click.option("--words", type=click.IntRange(min=1), default=20_000, show_default=True, help="Coverage is of this many most frequent English words.")
@click.option("--ranks", default="5000-6500", show_default=True, help="Places of the gold dictionary's source words that count.")
@click.option("--format", "form", type=click.Choice(["table", "tsv", "json"]), default="table", show_default=True)
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def quality_command(names: tuple[str, ...], languages: str, gold: str, words: int, ranks: str, form: str, quiet: bool) -> None:
    """Coverage, identity rate, translations a word, and precision at 1 and 5 of lexicons from English.

    \b
    csrerank lexicon quality wiktionary wiktionary+freedict --languages de,ru
    csrerank lexicon quality my.lex --languages de --gold my-gold.tsv --ranks 0-1000
    """
    from csrerank.lexicons.quality import quality, shown

    remarks: list[str] = []
    targets = [part.strip() for part in languages.split(",") if part.strip()]
    rows = list(quality(names, targets, gold, words, _ranks(ranks), remarks.append, quiet))
    if not quiet:
        for remark in remarks:
            click.echo(remark, err=True)
    click.echo(shown(rows, form))


@click.command("induce")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("pair")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A file ending in .lex.")
@click.option("--seed", help="Lexicon to align the two spaces with, for monolingual vectors.  [default: they are in one space already]")
@click.option("--words", type=click.IntRange(min=1), default=50_000, show_default=True, help="Words to read of each file, from its start.")
@click.option("--method", type=click.Choice(["csls", "plain"]), default="csls", show_default=True)
@click.option("--mutual/--all", default=True, show_default=True, help="Keep only mutual neighbours, or all.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Lowest score.")
@click.option("--k", type=click.IntRange(1, 16), default=5, show_default=True, help="Translations a word.")
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def induce_command(
    source: Path, target: Path, pair: str, output: Path, seed: str | None, words: int, method: str, mutual: bool, threshold: float, k: int, quiet: bool
) -> None:
    """Induce a lexicon from two .vec files, SOURCE's language into TARGET's.

    \b
    csrerank lexicon induce wiki.multi.en.vec wiki.multi.de.vec en-de --output induced.lex
    csrerank lexicon induce wiki.en.vec wiki.de.vec en-de --seed wiktionary --output induced.lex
    """
    from csrerank.lexicons.vec_files import induce_files

    source_lang, hyphen, target_lang = pair.partition("-")
    if not hyphen:
        raise InputError(f"{pair!r} is no language pair; write it as en-de")
    made = induce_files(source, target, source_lang, target_lang, output, seed, words, quiet, method=method, mutual=mutual, threshold=threshold, k=k)
    if not quiet:
        click.echo(f"{output}: {len(made)} words", err=True)
