"""The commands ``csrerank lexicon build`` and ``show``."""

from pathlib import Path

import click

from csrerank.errors import InputError
from csrerank.languages import language


@click.group("lexicon")
def lexicon() -> None:
    """Build and look into lexicons (docs/lexicons.md)."""


def _pair(text: str) -> tuple[str, str]:
    source_lang, hyphen, target_lang = text.partition("-")
    if not hyphen:
        raise InputError(f"{text!r} is no language pair; write it as en-de")
    return language(source_lang).code, language(target_lang).code


@lexicon.command("build")
@click.argument("arguments", nargs=-1, metavar="[NAME] PAIR")
@click.option("--format", "form", help="Read a file of your own of this format (muse, wiktionary, freedict, titles) in place of NAME; needs --input.")
@click.option("--input", "source", help="The file for --format.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A file ending in .lex, or a folder, where it is called PAIR.lex.")
@click.option("--quiet", is_flag=True, help="No remarks on standard error.")
def build_command(arguments: tuple[str, ...], form: str | None, source: str | None, output: Path, quiet: bool) -> None:
    """Compile a lexicon into one file: a source, a mix of sources (the first has precedence), or a file of your own.

    \b
    csrerank lexicon build wiktionary+freedict en-de --output lexicons/
    csrerank lexicon build --format muse --input my-words.tsv en-de --output my.lex
    """
    from csrerank.lexicons.building import build, described

    if (form is None) != (source is None):
        raise InputError("--format and --input belong together; give both")
    if len(arguments) != (2 if form is None else 1):
        raise InputError("give NAME and PAIR (open en-de)" if form is None else "with --format give only the PAIR (en-de)")
    made, path, skipped = build(None if form is None else (form, source or ""), arguments[0], _pair(arguments[-1]), output)
    if not quiet:
        for reason, count in skipped.items():
            click.echo(f"{source}: left out {count} {reason}", err=True)
        click.echo(f"{path}: {described(made)}", err=True)


@lexicon.command("show")
@click.argument("name")
@click.argument("pair")
@click.argument("words", nargs=-1)
def show_command(name: str, pair: str, words: tuple[str, ...]) -> None:
    """The translations of words, best first, as word, translation, score, source; without words what the lexicon is made of.

    \b
    csrerank lexicon show open en-de house "prime minister"
    csrerank lexicon show lexicons/en-de.lex en-de
    """
    from csrerank.lexicons.building import facts, looked_up
    from csrerank.lexicons.catalogue import find

    found = find(name, *_pair(pair))
    for row in looked_up(found, words) if words else facts(found):
        click.echo("\t".join(row))
