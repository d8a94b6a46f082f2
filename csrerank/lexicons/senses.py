"""A dictionary's senses: translations cleaned of all that is no word of the target language, and senses ranked, the most usual translation first."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import regex

from csrerank.languages import language
from csrerank.lexicons.lexicon import Entry, Lexicon, inverted, key_of

LONGEST = 3  # words of a headword: what code-switching looks up (Wiki-CS, Litschko et al. 2023, takes everything up to trigrams)
LONGEST_TRANSLATION = 4  # words; a longer one is an explanation, not a translation


class Sense(NamedTuple):
    """One sense of a headword, with its translations as they stand in the dictionary, cleaned."""

    word: str
    translations: Sequence[str]
    weight: float = 1.0


_SCRIPTS = {"Japanese": r"\p{Han}\p{Hiragana}\p{Katakana}ー々"}
_PRINTED = {"\u2019": "'", "\u2010": "-", "\u2011": "-", "\u0133": "ij", "\u0132": "IJ", "\u00a0": " ", "\u202f": " ", "\u3000": " ", "~": " "}
_UNSEEN = "\u00ad\u200b\u200e\u200f\u061c\ufeff\u0640\u0670" + "".join(map(chr, range(0x64B, 0x653)))  # and Arabic vowel marks
_TIDY = str.maketrans(_PRINTED | dict.fromkeys(_UNSEEN))
_UNTIDY = re.compile(f"[{''.join(_PRINTED)}{_UNSEEN}]")
_OBJECT = r"(?:etwas|etw|jdn|jdm|jds|jd|jmdn|jmdm|jmds|jmd)\b\.?"
# Objects, reflexives and articles that a dictionary writes around a word.
_AROUND = {
    "de": re.compile(rf"\b{_OBJECT}(?:/{_OBJECT})*|\busw\.|\betc\.|^sich\s|^(?:der|die|das)\s(?=[A-ZÄÖÜ])"),
    "nl": re.compile(r"\b(?:iets|iemand)\s|^zich\s|^(?:de|het|een)\s"),
    "fr": re.compile(r"\b(?:qqch|qqn|qc|qn)\b\.?|^s'|^se\s"),
    "es": re.compile(r"^(?:el|la|los|las)\s"),
    "it": re.compile(r"^(?:il|lo|la|gli|le)\s|^l'"),
    "en": re.compile(r"\b(?:sth|sb|so|smth)\.(?:'s)?(?:/(?:sth|sb)\.(?:'s)?)*|^to\s"),
}
_STRESS = "\u0301"  # Russian dictionaries mark the stress, texts do not
_EDGES = ' .,:;!?¡¿\u2026\u3002\uff01\uff1f\u061f"\u201c\u201d\u201e\u00ab\u00bb*+=|\\<>()[]{}\uff08\uff09\u300c\u300d'
_LATIN = re.compile("[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]")  # faster than regex's \p{Latin}


@cache
def _own(lang: str) -> tuple["re.Pattern[str] | regex.Pattern[str]", "regex.Pattern[str]"]:
    """A letter of the language's script, and a letter of any other."""
    script = language(lang).script
    letters = _SCRIPTS.get(script, rf"\p{{{script}}}")
    own = _LATIN if script == "Latin" else regex.compile(f"[{letters}]")
    return own, regex.compile(rf"[^{letters}\P{{L}}\p{{Script=Common}}\p{{Script=Inherited}}]")


@cache
def _simplified_characters() -> Mapping[int, str]:
    """wordfreq's table of traditional characters with their simplified ones."""
    import gzip
    from importlib.resources import files

    import msgpack

    packed = (files("wordfreq") / "data" / "_chinese_mapping.msgpack.gz").read_bytes()
    return msgpack.loads(gzip.decompress(packed), raw=False, strict_map_key=False)


def simplified(text: str) -> str:
    """Chinese text in simplified characters."""
    return text.translate(_simplified_characters())


@lru_cache(1 << 14)
def cleaned(text: str, lang: str) -> str:
    """A word or phrase as it is written in running text, or "" where nothing of the language is left, or what is left is no translation.

    Arabic vowel marks and Russian stress marks go, Chinese is simplified (as the collections are), objects and reflexives ("etw.", "sich") go; from the first
    word of another script on (a transliteration, a label), the rest goes. What has more than four words explains, and what has a slash or a hyphen at its
    end is a pattern: both are "".
    """
    if _UNTIDY.search(text):
        text = text.translate(_TIDY)
    if lang == "ru":
        text = text.replace(_STRESS, "")
    elif lang == "zh":
        text = simplified(text).replace(" ", "")
    if lang in _AROUND:
        text = _AROUND[lang].sub(" ", text.strip())
    own, foreign = _own(lang)
    if own is _LATIN and text.isascii() and text.isalpha():
        return text
    if not text.isascii() and foreign.search(text) or own is not _LATIN and _LATIN.search(text):
        kept = itertools.takewhile(lambda word: own.search(word) or not foreign.search(word), text.split())
        text = " ".join(kept)
    text = " ".join(text.split()).strip(_EDGES)
    if not own.search(text) or "/" in text or text[0] == "-" or text[-1] == "-" or text.count(" ") >= LONGEST_TRANSLATION:
        return ""
    return text


def _frequencies(lang: str) -> Mapping[str, float]:
    """The share of each word in running text, as wordfreq has it; nothing for a language that it lacks."""
    from wordfreq import available_languages, get_frequency_dict

    return get_frequency_dict(lang, "best") if lang in available_languages() else {}


def ranked(senses: Iterable[Sense], source_lang: str, target_lang: str) -> Iterator[Entry]:
    """An entry for each headword and translation; a headword's best translation scores 1.

    A translation's score is the sum of weight / sqrt(place) over the headword's senses, times exp(-3/4 d), over its number of words and the cube root of the
    number of headwords that it translates; d is the difference of the two words' Zipf frequencies (a phrase has that of its rarest word): what is about as
    usual as the headword, and translates few others, is likelier to be meant.

    Chosen by P@1 on MUSE's words 0-5,000, Arabic and Chinese spelled alike, mean over de ru ar nl it es zh fr ja tr of Wiktionary (FreeDict): first
    translation in the file .627 (.526); sum of 1/place .675 (.551); that times 1 + Zipf frequency .701 (.585); with d and headwords as here .724 (.630).
    """
    usual, usual_source = _frequencies(target_lang), _frequencies(source_lang)
    scores: dict[str, dict[str, float]] = {}
    heads: dict[str, int] = {}
    for word, translations, weight in senses:
        head = key_of(word)
        known = scores.setdefault(head, {})
        for place, translation in enumerate(translations, 1):
            if translation not in known:
                heads[translation] = heads.get(translation, 0) + 1
            known[translation] = known.get(translation, 0.0) + weight / math.sqrt(place)
    zipfs = {translation: _zipf(key_of(translation), usual) for translation in heads}
    shares = {translation: (key_of(translation).count(" ") + 1) * number ** (1 / 3) for translation, number in heads.items()}
    for head, known in scores.items():
        expected = _zipf(head, usual_source)
        for translation in known:
            known[translation] *= math.exp(-0.75 * abs(zipfs[translation] - expected)) / shares[translation]
        top = max(known.values())
        for translation, score in known.items():
            yield Entry(head, translation, score / top)


def _zipf(key: str, frequencies: Mapping[str, float]) -> float:
    """The Zipf frequency (log10 of occurrences in 10**9 words) of a phrase's rarest word; 0 for one that wordfreq lacks."""
    frequency = min([frequencies.get(word, 0.0) for word in key.split(" ")]) if " " in key else frequencies.get(key, 0.0)
    return math.log10(frequency) + 9 if frequency > 0 else 0.0


def turned(lexicon: Lexicon) -> Iterator[Entry]:
    """The entries of the other direction, ranked anew: a translation's headwords are its translations now."""
    senses = (Sense(entry.word, (entry.translation,), entry.score) for entry in inverted(lexicon))
    return ranked(senses, lexicon.target_lang, lexicon.source_lang)
