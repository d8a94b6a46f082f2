"""ML-CS: every word switches with probability p, into a language drawn for that word, before the lexicon is asked; a word that this language's lexicon lacks
stays (Litschko, Artemova, Plank 2023).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from csrerank.codeswitch.policy import Rule
from csrerank.codeswitch.tables import DRAW_BITS, DRAW_MASK, P_BITS, P_MASK, Lexicons, Switch, Table, Words, apart_from, word_draws


def switches(cut: Words, rule: Rule, key: str, lexicons: Lexicons, before: Sequence[Switch]) -> list[Switch]:
    """The words that switch, as records in order of place."""
    parts, starts = cut
    tables, bounds = _languages(rule, lexicons)
    count, best, threshold = len(tables), rule.choose == "best", round(rule.probability * (1 << P_BITS))
    records = []
    # This loop is where a collection's time goes, hence zip, and records made without NamedTuple's own constructor.
    for word, start, draw in zip(parts[1::2], starts[1::2], word_draws(key, len(parts) >> 1), strict=False):
        if draw & P_MASK < threshold:
            middle = draw >> P_BITS & DRAW_MASK
            table = tables[middle * count >> DRAW_BITS] if bounds is None else tables[bisect_right(bounds, middle)]
            option = table[word] if best else table.drawn(word, draw)
            if option is not None:
                records.append(tuple.__new__(Switch, (start, start + len(word), word) + option))
    return apart_from(before, records) if before else records


def decisions(cut: Words, rule: Rule, key: str, lexicons: Lexicons) -> Iterator[tuple[str, bool, str, bool]]:
    """(word, whether p chose it, the language drawn for it, whether that language's lexicon has it) for every word: what realised rates are counted from."""
    tables, bounds = _languages(rule, lexicons)
    threshold = round(rule.probability * (1 << P_BITS))
    for word, draw in zip(cut.parts[1::2], word_draws(key, len(cut.parts) >> 1), strict=True):
        middle = draw >> P_BITS & DRAW_MASK
        table = tables[middle * len(tables) >> DRAW_BITS if bounds is None else bisect_right(bounds, middle)]
        yield word, draw & P_MASK < threshold, table.lang, table[word] is not None


def _languages(rule: Rule, lexicons: Lexicons) -> tuple[list[Table], list[int] | None]:
    """A table a language, and the bounds of the languages' shares of the 20 bits; None where the shares are equal."""
    tables = [lexicons.table(rule, lang) for lang, _ in rule.languages]
    weights = [weight for _, weight in rule.languages]
    if len(set(weights)) == 1:
        return tables, None
    shares = list(accumulate(weights))
    return tables, [round(share / shares[-1] * (1 << DRAW_BITS)) for share in shares[:-1]]
