"""Wiki-CS: phrases of up to three words that are titles (or names) switch to the parallel title. One language a text; longest phrases first, each from left to
right; whole words only, so nothing is rewritten inside a word, and nothing twice.
"""

from collections.abc import Sequence

from csrerank.codeswitch.policy import Rule
from csrerank.codeswitch.tables import P_BITS, P_MASK, Lexicons, Switch, Words, text_draw, word_draws

LONGEST = 3


def switches(cut: Words, rule: Rule, key: str, lexicons: Lexicons, before: Sequence[Switch]) -> list[Switch]:
    """The phrases that switch, as records in order of place."""
    parts, starts = cut
    count = len(parts) >> 1
    table = lexicons.table(rule, drawn_language(rule, key))
    draws = word_draws(key, count)
    threshold = round(rule.probability * (1 << P_BITS))
    # taken[n]: word n belongs to a record already.
    taken = [any(starts[2 * n + 1] < record.end and record.start < starts[2 * n + 2] for record in before) for n in range(count)]
    records = []
    for length in range(min(LONGEST, count), 0, -1):  # by words: a hyphenated title has more of them than it has spaces
        for first in range(count - length + 1):
            if draws[first] & P_MASK >= threshold or any(taken[first : first + length]):
                continue
            phrase = "".join(parts[2 * first + 1 : 2 * (first + length)])
            option = table.drawn(phrase, draws[first])
            if option is not None:
                taken[first : first + length] = [True] * length
                start = starts[2 * first + 1]
                records.append(Switch(start, start + len(phrase), phrase, *option))
    return sorted(records)


def drawn_language(rule: Rule, key: str) -> str:
    """The text's language, drawn by the rule's weights."""
    share = text_draw(key) * sum(weight for _, weight in rule.languages)
    for lang, weight in rule.languages:
        share -= weight
        if share < 0:
            return lang
    return rule.languages[-1][0]
