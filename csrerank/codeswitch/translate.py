"""Term by term into one language, for Translate-Test (Litschko, Artemova, Plank 2023): from any language into English, say. What the lexicon lacks stays.

A word that the lexicon lacks as it is written is tried by its lemma (simplemma), an Arabic one also without its clitics. A run of Chinese, Japanese or Thai is cut by
longest match from left to right.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import regex

from csrerank.codeswitch.policy import Rule
from csrerank.codeswitch.tables import P_BITS, P_MASK, Lexicons, Switch, Table, Words, apart_from, word_draws
from csrerank.lexicons.lemmas import LEMMATISED
from csrerank.lexicons.lexicon import key_of
from csrerank.words import UNSPACED

_GRAPHEME, _LATIN, _WORDLIKE = regex.compile(r"\X"), regex.compile(r"\p{Latin}"), regex.compile(r"[\p{L}\p{M}\p{N}]")
_LONGEST = 24  # characters in which a word of a run is looked for
# Light10 (Larkey, Ballesteros, Connell 2002): prefixes and suffixes in the order in which they are tried.
_ARABIC_PREFIXES = ("وال", "بال", "كال", "فال", "لل", "ال", "و", "")
_ARABIC_SUFFIXES = ("", "ها", "ان", "ات", "ون", "ين", "يه", "ية", "ه", "ة", "ي")


def switches(cut: Words, rule: Rule, key: str, lexicons: Lexicons, before: Sequence[Switch]) -> list[Switch]:
    """The words that switch, as records in order of place."""
    ((lang, _),) = rule.languages
    table = lexicons.table(rule, lang, partial(_keys, rule.source))
    threshold = round(rule.probability * (1 << P_BITS))
    records = []
    pieces = list(_pieces(cut, rule.source, table))
    for (start, piece), draw in zip(pieces, word_draws(key, len(pieces)), strict=True):
        if draw & P_MASK < threshold:
            option = table.drawn(piece, draw)
            if option is not None:
                records.append(Switch(start, start + len(piece), piece, *option))
    records = apart_from(before, records) if before else records
    return _spaced(records, before, "".join(cut.parts)) if rule.source in UNSPACED else records


def _spaced(records: Sequence[Switch], before: Sequence[Switch], text: str) -> list[Switch]:
    """The records with the spaces around their replacements that the source language does without."""
    starts = {record.start for record in records}
    earlier_ends = {record.end: record for record in before}
    earlier_starts = {record.start: record for record in before}
    spaced = []
    for record in records:
        left = record.start > 0 and _beside(text, record.start - 1)
        if record.start in earlier_ends and earlier_ends[record.start].replacement.endswith(" "):
            left = False
        right = record.end not in starts and _beside(text, record.end)
        if record.end in earlier_starts and earlier_starts[record.end].replacement.startswith(" "):
            right = False
        spaced.append(record._replace(replacement=" " * left + record.replacement + " " * right))
    return spaced


def _beside(text: str, place: int) -> bool:
    return _WORDLIKE.match(text, place) is not None


def _pieces(cut: Words, lang: str, table: Table) -> Iterator[tuple[int, str]]:
    """(start, what is looked up): the words; in a language without spaces the words of each run."""
    for start, word in zip(cut.starts[1::2], cut.parts[1::2], strict=False):
        if lang in UNSPACED and not _LATIN.match(word):
            yield from ((start + first, word[first:last]) for first, last in _words_of(word, table))
        else:
            yield start, word


def _words_of(run: str, table: Table) -> Iterator[tuple[int, int]]:
    """(start, end) of the words of a run without spaces: the longest that the lexicon has, from left to right; what it lacks is left out. A character and the
    marks on it (a grapheme cluster) stay together.
    """
    ends = dict.fromkeys(match.end() for match in _GRAPHEME.finditer(run))
    place = 0
    while place < len(run):
        prefixes = table.lexicon.prefixes(run[place : place + _LONGEST])
        known = [end for end in (place + len(prefix) for prefix in prefixes) if end in ends and table[run[place:end]]]
        if known:
            yield place, known[-1]
        place = known[-1] if known else _GRAPHEME.match(run, place).end()


def _lemma(word: str, lang: str) -> str:
    import simplemma

    return simplemma.lemmatize(word, lang=lang)


def _keys(lang: str, key: str) -> Sequence[str]:
    """The keys to try for a word, in order: as it is written, then what a learner of the language would look up."""
    if lang == "tr":  # capitals lose their dots and gain others when they are made small without regard to Turkish
        dotted = key.replace("i\u0307", "i")
        return [dotted, dotted.replace("i", "\u0131"), key_of(_lemma(dotted, lang))]
    keys = [key, key_of(_lemma(key, lang))] if lang in LEMMATISED else [key]
    if lang == "ar":
        keys += [key[len(prefix) : len(key) - len(suffix)] for prefix in _ARABIC_PREFIXES for suffix in _ARABIC_SUFFIXES if _affixed(key, prefix, suffix)]
    return keys


def _affixed(key: str, prefix: str, suffix: str) -> bool:
    return key.startswith(prefix) and key.endswith(suffix) and len(key) - len(prefix) - len(suffix) >= 3
