"""The one table of languages: ISO 639-1 code, English name, script, and the names that other systems use."""

from typing import NamedTuple

from csrerank.errors import InputError


class Language(NamedTuple):
    """A language csrerank serves.

    ``script`` is a Unicode script name (``Han`` for Chinese, ``Japanese`` where several are mixed); ``mmarco`` is the name in ir_datasets' ``mmarco/v2`` (which calls Dutch ``dt``), or
    None where mMARCO lacks it; ``analyzer`` is Lucene's code, or None where Lucene (as pyserini ships it) has no analyzer; ``xquad`` says whether XQuAD-R has it.
    """

    code: str
    name: str
    script: str
    mmarco: str | None
    analyzer: str | None
    xquad: bool


LANGUAGES: dict[str, Language] = {
    row.code: row
    for row in (
        Language("ar", "Arabic", "Arabic", "ar", "ar", True),
        Language("bn", "Bengali", "Bengali", None, "bn", False),
        Language("de", "German", "Latin", "de", "de", True),
        Language("el", "Greek", "Greek", None, None, True),
        Language("en", "English", "Latin", "en", "en", True),
        Language("es", "Spanish", "Latin", "es", "es", True),
        Language("fi", "Finnish", "Latin", None, "fi", False),
        Language("fr", "French", "Latin", "fr", "fr", False),
        Language("hi", "Hindi", "Devanagari", "hi", "hi", True),
        Language("id", "Indonesian", "Latin", "id", "id", False),
        Language("it", "Italian", "Latin", "it", "it", False),
        Language("ja", "Japanese", "Japanese", "ja", "ja", False),
        Language("ko", "Korean", "Hangul", None, "ko", False),
        Language("nl", "Dutch", "Latin", "dt", "nl", False),
        Language("pt", "Portuguese", "Latin", "pt", "pt", False),
        Language("ru", "Russian", "Cyrillic", "ru", "ru", True),
        Language("te", "Telugu", "Telugu", None, "te", False),
        Language("th", "Thai", "Thai", None, "th", True),
        Language("tr", "Turkish", "Latin", None, "tr", True),
        Language("vi", "Vietnamese", "Latin", "vi", None, True),
        Language("zh", "Chinese", "Han", "zh", "zh", True),
    )
}

# Litschko et al. (2023): the languages that training saw, and those it did not.
SEEN = ("en", "de", "ru", "ar", "nl", "it")
UNSEEN = ("fr", "hi", "id", "ja", "pt", "es", "vi", "zh")
MMARCO = SEEN + UNSEEN
XQUAD = ("en", "de", "ru", "ar", "es", "tr", "zh", "vi", "el", "hi", "th")
DEMO = ("en", "de", "it", "ru", "ar", "nl", "es", "zh")


def language(code: str) -> Language:
    """The language with this ISO code; ``InputError`` naming the known ones otherwise."""
    try:
        return LANGUAGES[code]
    except KeyError:
        raise InputError(f"unknown language {code!r}; known are {' '.join(LANGUAGES)}") from None
