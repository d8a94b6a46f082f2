"""Words and their spans in any script."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csrerank.words import _pattern, spans, split, with_case_of, words


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("Germany's well-known 'capital', isn't it?", "en", ["Germany", "well", "known", "capital", "isn't", "it"]),
        ("O\u2019Reilly\u2019s book, don\u2019t", "en", ["O\u2019Reilly", "book", "don\u2019t"]),
        ("B2B covid19 snake_case 3rd x", "en", ["x"]),
        ("l'eau, dell'acqua", "fr", ["l", "eau", "dell", "acqua"]),
        ("Ankara'da bir ev", "tr", ["Ankara", "bir", "ev"]),
        ("हिन्दी में पानी", "hi", ["हिन्दी", "में", "पानी"]),
        ("والمَاءُ بارد،", "ar", ["والمَاءُ", "بارد"]),
        ("น้ำ เย็น", "th", ["น้ำ", "เย็น"]),
        ("水是冷的。好", "zh", ["水是冷的", "好"]),
        ("在2008年北京用email", "zh", ["在", "年北京用", "email"]),
        ("na\u0308ive cafe\u0301", "en", ["na\u0308ive", "cafe\u0301"]),
        ("क्\u200dष", "hi", ["क्\u200dष"]),
        ("1980's U.S.'s 90\u2019s B2B's s", "en", ["U", "S", "s"]),
        ("for\u00admation \u2764\ufe0flove 5\u0301x", "en", ["for\u00admation", "love"]),
        ("", "en", []),
    ],
)
def test_words(text: str, lang: str, expected: list[str]) -> None:
    """Marks belong to words; digits and underscores spoil one; apostrophes go by language."""
    assert words(text, lang) == expected
    assert [text[start:end] for start, end in spans(text, lang)] == expected
    assert "".join(split(text, lang)) == text


@settings(max_examples=500)
@given(
    st.text(alphabet=st.sampled_from("abS s'Zs9_-. "), max_size=40)
    | st.text(alphabet=st.sampled_from("abéøßs ŉǆS'\u2019\u20149_.µª²\u00ad\u00b7Ÿſ\u0301"), max_size=30)
)
def test_the_fast_engines_give_the_same_words(text: str) -> None:
    """The fast patterns for ASCII and Latin letters are the general one's equals."""
    assert split(text, "en") == _pattern("en").split(text)


@given(st.text(max_size=60), st.sampled_from(["en", "fr", "tr", "de", "zh"]))
def test_split_loses_nothing(text: str, lang: str) -> None:
    """Joined again, the parts are the text; words stand at the odd places and are not empty."""
    parts = split(text, lang)
    assert "".join(parts) == text and len(parts) % 2 == 1 and all(parts[1::2])


@pytest.mark.parametrize(
    ("word", "original", "lang", "expected"),
    [
        ("wasser", "Water", "de", "Wasser"),
        ("Wasser", "water", "de", "Wasser"),
        ("вода", "WATER", "ru", "ВОДА"),
        ("ich", "I", "de", "ich"),
        ("ein", "A", "de", "Ein"),
        ("ilk", "First", "tr", "\u0130lk"),
        ("ilk", "FIRST", "tr", "\u0130LK"),
        ("ماء", "Water", "ar", "ماء"),
        ("straße", "STREET", "de", "STRASSE"),
        ("iPod", "McDonald", "it", "IPod"),
        ("ijs", "Ice", "nl", "IJs"),
    ],
)
def test_case_carries_over(word: str, original: str, lang: str, expected: str) -> None:
    """Capitals carry over where the script has them; the lexicon's own capitals stay."""
    assert with_case_of(word, original, lang) == expected
