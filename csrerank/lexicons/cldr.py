"""Names that Unicode CLDR has in both languages, through babel: languages, territories, scripts, months, days of the week, currencies, units."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from csrerank.languages import LANGUAGES as ALL_LANGUAGES
from csrerank.lexicons.lexicon import Entry
from csrerank.lexicons.registry import register
from csrerank.lexicons.senses import LONGEST

NAME, LICENCE = "cldr", "Unicode-3.0"
LANGUAGES = tuple(lang for lang in ALL_LANGUAGES if lang != "en")


def entries(source_lang: str, target_lang: str) -> Iterator[Entry]:
    """Every name of at most three words, with the name of the same thing in the other language; those with brackets or digits are left out."""
    from babel import Locale

    names, counterparts = (_names(Locale(lang)) for lang in (source_lang, target_lang))
    for thing, name in names.items():
        counterpart = counterparts.get(thing)
        if counterpart and len(name.split()) <= LONGEST and not any(char in "()[]{}" or char.isdigit() for char in name + counterpart):
            yield Entry(name, counterpart)


def _names(locale: Any) -> dict[tuple[str, str], str]:
    """Name by kind and code."""
    kinds = {
        "language": locale.languages,
        "territory": locale.territories,
        "script": locale.scripts,
        "month": locale.months["stand-alone"]["wide"],
        "day": locale.days["stand-alone"]["wide"],
        "currency": locale.currencies,
    }
    names = {(kind, str(code)): str(name) for kind, known in kinds.items() for code, name in known.items()}
    for unit, patterns in locale._data["unit_patterns"].items():  # babel formats numbers with units, and gives no names of single ones
        for number, pattern in patterns.get("long", {}).items():
            if number in ("one", "other") and isinstance(pattern, str):
                names[f"unit {number}", unit] = pattern.replace("{0}", "").strip()
    return names


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """The version of babel, which carries CLDR's."""
    return {"babel": version("babel")}


register(NAME, LICENCE, entries=entries, languages=LANGUAGES, inputs=inputs, both=True)
