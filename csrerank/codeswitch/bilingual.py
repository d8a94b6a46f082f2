"""BL-CS: ML-CS with one language: every word switches with probability p into that one; one model is trained for each language pair. Of several languages each text draws
one by the rule's weights, so that one model learns many pairs, and a text is in two languages at most.
"""

from collections.abc import Sequence

from csrerank.codeswitch import multilingual
from csrerank.codeswitch.policy import Rule
from csrerank.codeswitch.tables import Lexicons, Switch, Words
from csrerank.codeswitch.titles import drawn_language


def switches(cut: Words, rule: Rule, key: str, lexicons: Lexicons, before: Sequence[Switch]) -> list[Switch]:
    """The words that switch, as records in order of place."""
    return multilingual.switches(cut, of_text(rule, key), key, lexicons, before)


def of_text(rule: Rule, key: str) -> Rule:
    """The rule with the language that the text draws; one with one language, and of another strategy, as it is."""
    if rule.strategy != "bilingual" or len(rule.languages) == 1:
        return rule
    return rule._replace(languages=((drawn_language(rule, key), 1.0),))
