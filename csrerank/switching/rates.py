"""Realised rates of switching, counted shard by shard as plain sums, so that any division of the work gives the same figures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from csrerank.codeswitch import Lexicons, Policy, Switch
from csrerank.codeswitch.bilingual import of_text
from csrerank.codeswitch.multilingual import decisions
from csrerank.codeswitch.policy import Side
from csrerank.codeswitch.switching import key_for
from csrerank.codeswitch.tables import Words, text_draw
from csrerank.words import UNSPACED, split, words

WORD_STRATEGIES = ("bilingual", "multilingual")  # those that draw word by word, so that their decisions can be counted
SAMPLED = 10_000  # records of a side whose words' decisions are counted
_LANG, _SOURCE = itemgetter(Switch._fields.index("lang")), itemgetter(Switch._fields.index("source"))


def source_lang(side: Side) -> str:
    """The language whose words are counted: that of the first rule."""
    return side.rules[0].source if side.rules else "en"


def unit_of(side: Side) -> str:
    """What is counted: words, or characters of words in a language that is written without spaces between them."""
    return "characters" if source_lang(side) in UNSPACED else "words"


def count(originals: Iterable[Sequence[str]], switches: Sequence[Sequence[Sequence[Switch]]], side: Side) -> Counter[str]:
    """Counts over records, each a sequence of its switched fields' original texts, and beside it their switches."""
    lang, unspaced = source_lang(side), unit_of(side) == "characters"
    single = all(rule.strategy in WORD_STRATEGIES for rule in side.rules)
    flat = [switch for fields in switches for found in fields for switch in found]
    counts: Counter[str] = Counter(records=len(switches), unchanged=sum(not any(fields) for fields in switches), switches=len(flat))
    texts = (text for fields in originals for text in fields)
    if unspaced:
        counts["words"] = sum(len(word) for text in texts for word in words(text, lang))
        counts["switched"] = sum(switch.end - switch.start for switch in flat)
    else:
        counts["words"] = sum(len(split(text, lang)) >> 1 for text in texts)
        counts["switched"] = len(flat) if single else sum(len(split(switch.original, lang)) >> 1 for switch in flat)
    for kind, which in (("lang", _LANG), ("source", _SOURCE)):
        for name, number in Counter(map(which, flat)).items():
            counts[f"{kind}/{name}"] = number
    return counts


def count_decisions(texts: Iterable[tuple[str, str]], policy: Policy, side: str, lexicons: Lexicons, seed: int, epoch: int) -> Counter[str]:
    """For (identifier, text): how many words each language was drawn for, how many of them its lexicon has, and how many of those p chose, by language; of
    texts that a policy leaves English, none.
    """
    rules, counts = policy.side(side), Counter[str]()
    chosen_rules = [(number, rule) for number, rule in enumerate(rules.rules) if rule.strategy in WORD_STRATEGIES]
    for identifier, text in texts if chosen_rules else ():
        key = key_for(seed, epoch, side, identifier)
        if rules.stays_english and text_draw(key) < rules.stays_english:
            continue
        for number, rule in chosen_rules:
            ruled = f"{key}\x1f{number}"
            made = Counter(
                (lang, chosen, covered) for _, chosen, lang, covered in decisions(Words.of(text, rule.source), of_text(rule, ruled), ruled, lexicons)
            )
            for (lang, chosen, covered), times in made.items():
                counts[f"drawn/{lang}"] += times
                counts[f"covered/{lang}"] += times * covered
                counts[f"chosen/{lang}"] += times * (covered and chosen)
    return counts


def plain(counts: Mapping[str, int], side: Side) -> dict[str, Any]:
    """The counts of one side as a data card spells them."""
    unit = unit_of(side)
    content: dict[str, Any] = {
        "records": counts["records"],
        "records without a switch": counts["unchanged"],
        unit: counts["words"],
        f"switched {unit}": counts["switched"],
        f"share of {unit} switched": _share(counts["switched"], counts["words"]),
        "switches": counts["switches"],
        "switches by language": _named(counts, "lang"),
        "switches by lexicon source": _named(counts, "source"),
    }
    if drawn := _named(counts, "drawn"):
        covered, chosen = _named(counts, "covered"), _named(counts, "chosen")
        content[f"of the first {SAMPLED} records"] = {
            "switching rate of words that the lexicon has": _share(sum(chosen.values()), sum(covered.values())),
            "coverage by language": {lang: _share(covered.get(lang, 0), times) for lang, times in drawn.items()},
        }
    return content


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _named(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {name.removeprefix(f"{kind}/"): counts[name] for name in sorted(counts) if name.startswith(f"{kind}/")}
