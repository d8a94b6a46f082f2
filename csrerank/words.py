"""Words and their spans in any script: what lexicons are keyed by, what a switch replaces, and what token overlap counts.

A word is a run of letters and the marks on them (so Devanagari, Arabic and Thai stay whole) that touches no digit and no underscore. In English an apostrophe
between letters belongs to the word (*don't*), but a possessive *'s* stays outside it, and is none. In Chinese, Japanese and Thai, which put no space between words, a run of
letters is one word here, whatever digits stand beside it; ``codeswitch`` cuts it by the lexicon.
"""

import re
from functools import cache

import regex

_LETTER = r"[\p{L}\p{M}\u200c\u200d\u00ad]"  # the joiners stand inside words of Indic scripts and Persian, the soft hyphen inside any
_START = r"(?<![\p{L}\p{N}_][\p{M}\u00ad]*+)"  # a mark on something else than a letter (an emoji, say) is no letter
_END = r"(?![\p{L}\p{M}\p{N}_])"
_APOSTROPHE = "['\u2019]"
# After an apostrophe: English and most others write on, except that English *'s* is left alone; French and Italian start a new word (l'eau, dell'acqua);
# Turkish adds a suffix, which is no word.
_ENGLISH = rf"{_START}(?<![\p{{L}}\p{{M}}\p{{N}}_]{_APOSTROPHE})(?!(?<=\S{_APOSTROPHE})[sS]{_END})\p{{L}}{_LETTER}*+(?:{_APOSTROPHE}(?![sS]{_END})\p{{L}}{_LETTER}*+)*+{_END}"
_JOINED = rf"{_START}\p{{L}}{_LETTER}*+(?:{_APOSTROPHE}\p{{L}}{_LETTER}*+)*+{_END}"
_APART = rf"{_START}\p{{L}}{_LETTER}*+{_END}"
_SUFFIXED = rf"{_START}(?<![\p{{L}}\p{{M}}]{_APOSTROPHE})\p{{L}}{_LETTER}*+{_END}"
# Without spaces between words: a run of other letters than Latin, or of Latin ones; digits beside it do not matter.
_RUN = r"[\p{L}--\p{Latin}][\p{L}\p{M}\u200c\u200d--\p{Latin}]*+|\p{Latin}[\p{Latin}\p{M}]*+"
_PATTERNS = {"zh": _RUN, "ja": _RUN, "th": _RUN, "en": _ENGLISH, "fr": _APART, "it": _APART, "tr": _SUFFIXED}
# The same words for English in ASCII, and in Latin letters with common punctuation, by the standard library's faster engine; a property test holds them together.
_ASCII = re.compile(r"(\b(?<!\w')(?!(?<=\S')[sS]\b)[A-Za-z]++(?:'(?![sS]\b)[A-Za-z]++)*+\b)", re.ASCII)
_L = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_IS_LATIN = re.compile(f"[\0-\x7f{_L}\u00a0-\u00a9\u00ab\u00ac\u00ae-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u2010-\u2027\u20ac]*+")
# It begins with a letter, since the engine skips to one; what must not stand before a word is looked for behind that letter.
_LATIN = re.compile(rf"([{_L}](?<!\w[{_L}])(?<!\w{_APOSTROPHE}[{_L}])(?!(?<=\S{_APOSTROPHE}[sS])\b)[{_L}]*+(?:{_APOSTROPHE}(?![sS]\b)[{_L}]++)*+\b)")

UNSPACED = frozenset({"zh", "ja", "th"})  # languages written without spaces between words

# English words of the closed classes: determiners, pronouns, prepositions, conjunctions, auxiliaries, particles and question words.
FUNCTION_WORDS = frozenset(
    """
    a an the this that these those each every either neither some any no none all both half such what whatever which whichever whose my your his her its
    our their mine yours hers ours theirs i me you he him she it we us they them myself yourself himself herself itself ourselves yourselves themselves
    one oneself who whom whoever whomever someone somebody something anyone anybody anything everyone everybody everything nobody nothing other another
    about above across after against along amid among amongst around as at before behind below beneath beside besides between beyond by despite down
    during except for from in inside into like near of off on onto opposite out outside over past per since than through throughout till to toward towards
    under underneath until unto up upon versus via with within without and but or nor so yet if because although though unless while whereas whether am is
    are was were be been being do does did doing done have has had having can could may might must shall should will would ought not don't doesn't didn't
    isn't aren't wasn't weren't haven't hasn't hadn't can't cannot couldn't won't wouldn't shouldn't mustn't there here then when where why how however
    therefore thus hence too also very just only even still again once i'm you're we're they're i've you've we've they've i'd you'd he'd she'd we'd they'd
    i'll you'll he'll she'll we'll they'll it'll
    """.split()  # noqa: SIM905  a list would take two hundred lines
)


@cache
def _pattern(lang: str) -> "regex.Pattern[str]":
    return regex.compile(f"({_PATTERNS.get(lang, _JOINED)})", regex.V1)


def split(text: str, lang: str = "en") -> list[str]:
    """``text`` cut at its words: ``[gap, word, gap, word, ..., gap]``, so that joining the list gives ``text`` and the words stand at the odd places."""
    if lang == "en":
        if text.isascii():
            return _ASCII.split(text)
        if _IS_LATIN.fullmatch(text):
            return _LATIN.split(text)
    return _pattern(lang).split(text)


def spans(text: str, lang: str = "en") -> list[tuple[int, int]]:
    """(start, end) of each word in ``text``, in characters."""
    return [match.span() for match in _pattern(lang).finditer(text)]


def words(text: str, lang: str = "en") -> list[str]:
    """The words of ``text`` as they are written."""
    return split(text, lang)[1::2]


def with_case_of(word: str, original: str, lang: str, source: str = "en") -> str:
    """``word`` (in language ``lang``) written with the case of ``original`` (in language ``source``): all capitals, a capital first, or as the lexicon has it (a German noun keeps its
    capital). A single capital letter is a capital first, and English *I* says nothing. Scripts without case are left as they are.
    """
    if not original[0].isupper() or (original == "I" and source == "en"):
        return word
    if len(original) > 1 and original.isupper():
        return _upper(word, lang)
    first = 2 if lang == "nl" and word.startswith("ij") else 1  # one letter to the Dutch
    return _upper(word[:first], lang) + word[first:]


def _upper(text: str, lang: str) -> str:
    return (text.replace("i", "\u0130") if lang == "tr" else text).upper()
