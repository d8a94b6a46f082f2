"""What ``csrerank lexicon build`` and ``show`` do: a lexicon written to a file, and a lexicon as rows of text."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from csrerank.errors import InputError
from csrerank.files import check_writable
from csrerank.lexicons.catalogue import ENDING, find, read_file
from csrerank.lexicons.lexicon import Lexicon, StoredLexicon, key_of
from csrerank.lexicons.registry import Skipped


def build(own: tuple[str, str] | None, name: str, pair: tuple[str, str], output: Path) -> tuple[StoredLexicon, Path, Skipped]:
    """Write the lexicon ``name``, or of ``own`` (format, file), to ``output``; return it, its path, and what a reader left out.

    :param output: a file ending in ``.lex``, or a folder (made if need be), where it is called ``en-de.lex``.
    :raises InputError: for an unknown name or format, a bad file, and where ``output`` cannot be written.
    """
    path = output
    if output.suffix != ENDING:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: no folder can be made here ({error.strerror}); name a folder, or a file ending in {ENDING}") from error
        path = output / f"{pair[0]}-{pair[1]}{ENDING}"
    check_writable(path)
    made, skipped = (find(name, *pair), Skipped()) if own is None else read_file(*own, *pair)
    made.save(path)
    return made, path, skipped


def described(lexicon: Lexicon) -> str:
    """A lexicon in a line: its size and its sources."""
    return f"{lexicon.source_lang}-{lexicon.target_lang}, {len(lexicon)} words and phrases, of {', '.join(source.name for source in lexicon.sources)}"


def looked_up(lexicon: Lexicon, words: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """A row (word, translation, score, source) for each translation; a word that the lexicon lacks gets one with hyphens."""
    for word in words:
        found = lexicon.translations(key_of(word))
        yield from ((word, translation.text, f"{translation.score:.3f}", translation.source) for translation in found)
        if not found:
            yield word, "-", "-", "-"


def facts(lexicon: Lexicon) -> Iterator[tuple[str, ...]]:
    """Rows: languages, counts, fingerprint, then each source with its licence, the words of which it has the best translation, and the files it was made of."""
    words = phrases = translations = 0
    first = dict.fromkeys((source.name for source in lexicon.sources), 0)
    for key in lexicon:
        found = lexicon.translations(key)
        words, phrases, translations = words + 1, phrases + (" " in key), translations + len(found)
        first[found[0].source] += 1
    yield "languages", f"{lexicon.source_lang}-{lexicon.target_lang}"
    yield "entries", str(words)
    yield "phrases", f"{phrases} of up to {lexicon.longest} words"
    yield "translations", f"{translations / max(1, words):.2f} an entry"
    yield "fingerprint", lexicon.fingerprint
    for source in lexicon.sources:
        yield "source", source.name, source.licence, f"{first[source.name]} entries led"
        yield from (("made of", name, digest) for name, digest in source.files.items())
