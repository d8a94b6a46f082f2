"""The one table of languages: ISO 639-1 code, English name, script, and the names that other systems use."""

from typing import NamedTuple

from csrerank.errors import InputError


class Language(NamedTuple):
    """A language csrerank serves.

    ``script`` is a Unicode script name (``Han`` for Chinese, ``Japanese`` where several are mixed); ``mmarco`` is the name in ir_datasets' ``mmarco/v2``
    (which calls Dutch ``dt``), or None where mMARCO lacks it.
    """

    code: str
    name: str
    script: str
    mmarco: str | None


LANGUAGES: dict[str, Language] = {
    row.code: row
    for row in (
        Language("ar", "Arabic", "Arabic", "ar"),
        Language("bn", "Bengali", "Bengali", None),
        Language("de", "German", "Latin", "de"),
        Language("el", "Greek", "Greek", None),
        Language("en", "English", "Latin", "en"),
        Language("es", "Spanish", "Latin", "es"),
        Language("fi", "Finnish", "Latin", None),
        Language("fr", "French", "Latin", "fr"),
        Language("hi", "Hindi", "Devanagari", "hi"),
        Language("id", "Indonesian", "Latin", "id"),
        Language("it", "Italian", "Latin", "it"),
        Language("ja", "Japanese", "Japanese", "ja"),
        Language("ko", "Korean", "Hangul", None),
        Language("nl", "Dutch", "Latin", "dt"),
        Language("pt", "Portuguese", "Latin", "pt"),
        Language("ru", "Russian", "Cyrillic", "ru"),
        Language("te", "Telugu", "Telugu", None),
        Language("th", "Thai", "Thai", None),
        Language("tr", "Turkish", "Latin", None),
        Language("vi", "Vietnamese", "Latin", "vi"),
        Language("zh", "Chinese", "Han", "zh"),
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
