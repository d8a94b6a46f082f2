"""BL-CS: ML-CS with one language: every word switches with probability p into that one; one model is trained for each language pair. Of several languages each text draws
one by the rule's weights, so that one model learns many pairs, and a text is in two languages at most. Words of a language that puts no space between them lose the space
between neighbours, as that language is written, and as its texts are tokenized.
"""

from collections.abc import Sequence

from csrerank.codeswitch import multilingual
from csrerank.codeswitch.policy import Rule
from csrerank.codeswitch.tables import Lexicons, Switch, Words
from csrerank.codeswitch.titles import drawn_language
from csrerank.words import UNSPACED


def switches(cut: Words, rule: Rule, key: str, lexicons: Lexicons, before: Sequence[Switch]) -> list[Switch]:
    """The words that switch, as records in order of place."""
    own = of_text(rule, key)
    records = multilingual.switches(cut, own, key, lexicons, before)
    return joined(records, cut) if own.languages[0][0] in UNSPACED else records


def joined(records: list[Switch], cut: Words) -> list[Switch]:
    """The records, each that follows upon another after a single space with that space taken in, so that the two replacements touch."""
    ends = {record.end for record in records}
    spaces = {start for part, start in zip(cut.parts[::2], cut.starts[::2], strict=True) if part == " " and start in ends}
    return [record._replace(start=record.start - 1, original=f" {record.original}") if record.start - 1 in spaces else record for record in records]


def of_text(rule: Rule, key: str) -> Rule:
    """The rule with the language that the text draws; one with one language, and of another strategy, as it is."""
    if rule.strategy != "bilingual" or len(rule.languages) == 1:
        return rule
    return rule._replace(languages=((drawn_language(rule, key), 1.0),))
