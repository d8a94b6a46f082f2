"""Lexicons by name: a source, several joined by ``+`` in order of precedence, an alias, or a saved file; compiled once, then memory-mapped."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b, file_digest
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from csrerank.cache import cache_folder
from csrerank.errors import InputError
from csrerank.files import is_stream
from csrerank.languages import language
from csrerank.lexicons.lexicon import FORMAT, Merged, Source, StoredLexicon
from csrerank.lexicons.registry import SOURCES, Registered, Skipped

_MODULES = ("muse", "wiktionary", "freedict", "lemmas", "titles", "cldr", "names", "embeddings")
# What can be downloaded and shipped, in the order that scored best (docs/lexicons.md).
ALIASES = {"open": ("wiktionary", "freedict", "wiktionary-lemmas", "freedict-lemmas")}
ENDING = ".lex"
_SHOWN = 56  # characters of a mix's name in that of its folder: at four bytes each these fit what a file system takes


def _sources() -> Mapping[str, Registered]:
    for module in _MODULES:
        if find_spec(f"csrerank.lexicons.{module}"):
            import_module(f"csrerank.lexicons.{module}")
    return SOURCES


def names() -> tuple[str, ...]:
    """The names that ``find`` knows: sources that can be made without a file of the user's, and aliases."""
    return (*sorted(name for name, source in _sources().items() if source.entries is not None), *ALIASES)


def languages_of(name: str) -> frozenset[str]:
    """The languages X for which a source or an alias has English into X."""
    return frozenset().union(*(_source(part).languages for part in ALIASES.get(name, (name,))))


def _source(name: str) -> Registered:
    source = _sources().get(name)
    if source is not None and source.entries is None:
        raise InputError(f"{name}: there is no fixed address to fetch; build it of your own file: csrerank lexicon build --format {name} --input FILE")
    if source is None:
        raise InputError(
            f"unknown lexicon {name!r}; known are {' '.join(names())}, mixes of them joined by +, files ending in {ENDING}, and folders of such files"
        )
    return source


def find(name: str, source_lang: str, target_lang: str, cache: Path | None = None, quiet: bool = False) -> StoredLexicon:
    """The lexicon of this name for one direction of one language pair.

    It is compiled at the first call, under ``cache`` (default: csrerank's cache folder), and mapped from there afterwards. Of a mix each part must have the
    languages; an alias leaves out the parts that lack them. Compiling shows its progress on a terminal, unless ``quiet``. Raises ``InputError`` for an unknown name, and for languages that are not to be had.
    """
    cache = cache or cache_folder()
    parts = _parts(name, source_lang, target_lang)
    if len(parts) == 1:
        return _part(parts[0], source_lang, target_lang, cache, quiet)
    keys = [_key(part, source_lang, target_lang) for part in parts]
    shown = "+".join(part if part in SOURCES else Path(part).stem for part in parts)
    place = _place(cache, shown, keys, source_lang, target_lang)
    return _cached(place, lambda: StoredLexicon.stored(Merged([_part(part, source_lang, target_lang, cache, quiet) for part in parts])))


def _other(source_lang: str, target_lang: str) -> str:
    """The language beside English. Raises ``InputError`` where English is neither or both."""
    others = [language(lang).code for lang in (source_lang, target_lang) if lang != "en"]
    if len(others) != 1:
        raise InputError(f"no lexicon from {source_lang} into {target_lang}: one of the two languages must be en")
    return others[0]


def _parts(name: str, source_lang: str, target_lang: str) -> list[str]:
    """The sources and files that a name stands for, in order of precedence."""
    if _is_path(name):
        return [name]
    found: list[str] = []
    for part in name.split("+"):
        if not part:
            raise InputError(f"lexicon {name!r}: an empty name; write names joined by single +, as in open+names, and the folder you are in as .")
        if _is_path(part):
            found.append(part)
            continue
        languages = languages_of(part)
        if (other := _other(source_lang, target_lang)) not in languages:
            raise InputError(f"{part}: no lexicon for {other}; it has {' '.join(sorted(languages))}")
        found += [source for source in ALIASES.get(part, (part,)) if other in _source(source).languages]
    return list(dict.fromkeys(found))


def _is_path(name: str) -> bool:
    """Known names come first: a folder that is called like a source is written ./NAME."""
    return name not in _sources() and name not in ALIASES and (name.endswith(ENDING) or os.path.isdir(name)) and ("+" not in name or os.path.exists(name))


def _file(name: str, source_lang: str, target_lang: str) -> StoredLexicon:
    path = Path(name) / f"{source_lang}-{target_lang}{ENDING}" if os.path.isdir(name) else Path(name)
    lexicon = StoredLexicon.load(path)
    if (lexicon.source_lang, lexicon.target_lang) != (source_lang, target_lang):
        raise InputError(f"{path}: a lexicon from {lexicon.source_lang} into {lexicon.target_lang}, not from {source_lang} into {target_lang}; name another")
    return lexicon


def _key(name: str, source_lang: str, target_lang: str) -> str:
    """What a source's entries depend on, as text."""
    if _is_path(name):
        lexicon = _file(name, source_lang, target_lang)
        return json.dumps([lexicon.fingerprint, lexicon.sources], sort_keys=True)  # the same entries may have come from other files, under another licence
    source = _source(name)
    read = (source_lang, target_lang) if source.both else tuple(sorted((source_lang, target_lang), key=lambda lang: lang != "en"))
    return json.dumps([FORMAT, name, source.version, dict(source.inputs(*read)), source.licence_of(*read)], sort_keys=True)


def _place(cache: Path, name: str, keys: list[str], source_lang: str, target_lang: str) -> Path:
    digest = blake2b("\n".join(keys).encode(), digest_size=8).hexdigest()
    return cache / "lexicons" / f"{name[:_SHOWN]}-{digest}" / f"{source_lang}-{target_lang}{ENDING}"


def _part(name: str, source_lang: str, target_lang: str, cache: Path, quiet: bool) -> StoredLexicon:
    if _is_path(name):
        return _file(name, source_lang, target_lang)
    source = _source(name)

    def made() -> StoredLexicon:
        from tqdm import tqdm

        if source_lang != "en" and not source.both:
            straight = _part(name, target_lang, source_lang, cache, quiet)
            return StoredLexicon.compiled(source.turn(straight), straight.sources[0], source_lang, target_lang)
        assert source.entries is not None
        about = Source(name, source.licence_of(source_lang, target_lang), source.inputs(source_lang, target_lang))
        entries = source.entries(source_lang, target_lang)
        with tqdm(entries, desc=f"compiling {name} {source_lang}-{target_lang}", unit="entry", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
            return StoredLexicon.compiled(bar, about, source_lang, target_lang)

    place = _place(cache, name, [_key(name, source_lang, target_lang)], source_lang, target_lang)
    return _cached(place, made)


def _cached(place: Path, made: Callable[[], StoredLexicon]) -> StoredLexicon:
    """The lexicon at ``place`` in the cache; ``made`` makes it where there is none, and again where the file is damaged."""
    if place.exists():
        # What is in the cache can be made again, and gives the same lexicon; a file of the user's goes through _file, which refuses a damaged one.
        with suppress(InputError):
            return StoredLexicon.load(place)
    lexicon = made()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place.parent}: cannot be made ({error.strerror}); set CSRERANK_CACHE to a folder that can be written") from error
    lexicon.save(place)
    return StoredLexicon.load(place)


def read_file(form: str, path: str | Path, source_lang: str, target_lang: str) -> tuple[StoredLexicon, Skipped]:
    """A user's own file in the form of one of the sources, compiled, and what its reader left out. Raises ``InputError`` for an unknown form or a bad file."""
    language(source_lang)
    language(target_lang)
    source = _sources().get(form)
    if source is None or source.read is None:
        raise InputError(f"unknown format {form!r}; known are {' '.join(formats())}")
    if is_stream(path):
        raise InputError(f"{path}: read more than once, so it cannot come from a pipe; give a file")
    skipped = Skipped()
    entries = list(source.read(path, source_lang, target_lang, skipped))
    about = Source(form, f"that of {Path(path).name}", {file.name: _md5(file) for file in source.files_of(path)})
    return StoredLexicon.compiled(entries, about, source_lang, target_lang), skipped


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "md5").hexdigest()


def formats() -> tuple[str, ...]:
    """The formats that ``read_file`` reads."""
    return tuple(sorted(name for name, source in _sources().items() if source.read is not None))
