"""A lexicon induced from two ``.vec`` files of the user's."""

import sys
from hashlib import file_digest
from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.lexicons.embeddings import aligned, induce, seed_pairs
from csrerank.lexicons.lexicon import Source, StoredLexicon
from csrerank.lexicons.vectors import read_vec


def induce_files(
    source: Path, target: Path, source_lang: str, target_lang: str, output: Path, seed: str | None = None, words: int = 50_000, quiet: bool = True,
    **settings: Any,
) -> StoredLexicon:  # fmt: skip
    """The lexicon induced from two ``.vec`` files, written to ``output``. ``seed`` names a lexicon to align monolingual spaces with (``aligned``); ``settings``
    are those of ``induce``. Raises ``InputError`` for files that cannot be read or aligned, and where ``output`` is one of them.
    """
    from tqdm import tqdm

    from csrerank.lexicons.catalogue import find

    _check_files(source, target, source_lang, target_lang, output, seed)
    (left_words, left), (right_words, right) = read_vec(source, words, quiet), read_vec(target, words, quiet)
    licences = [f"that of {source.name} and {target.name}"]
    files = {f"{lang} {path.name}": _md5(path) for lang, path in ((source_lang, source), (target_lang, target))}
    if seed is not None:
        known = find(seed, source_lang, target_lang, quiet=quiet)
        licences += dict.fromkeys(f"{part.licence} (seed {part.name})" for part in known.sources)
        files |= {f"seed {part.name}: {name}": digest for part in known.sources for name, digest in part.files.items()}
        pairs = seed_pairs(known, left_words, right_words)
        space = aligned(left, right, pairs)
        left, right = space.source, space.target
    elif left.shape[1] != right.shape[1]:
        raise InputError(f"{source} has {left.shape[1]} dimensions and {target} {right.shape[1]}: not one space; take two files of the same kind")
    induced = induce(left_words, left, right_words, right, **settings)
    with tqdm(induced, desc=f"inducing {source_lang}-{target_lang}", unit="entry", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
        made = StoredLexicon.compiled(bar, Source("induced", "; ".join(licences), files), source_lang, target_lang)
    made.save(output)
    return made


def _check_files(source: Path, target: Path, source_lang: str, target_lang: str, output: Path, seed: str | None) -> None:
    """Raise ``InputError`` for what ``induce_files`` could not do, before it begins."""
    from csrerank.files import check_writable, is_stream
    from csrerank.languages import language
    from csrerank.lexicons.catalogue import ENDING

    if language(source_lang) == language(target_lang):
        raise InputError(f"{source_lang}-{target_lang}: one language; a lexicon is induced from one into another")
    for path in (source, target):
        if is_stream(path):
            raise InputError(f"{path}: read more than once, so it cannot come from a pipe; give a file")
    if output.suffix != ENDING:
        raise InputError(f"--output {output}: the name of a lexicon ends in {ENDING}; call it {output}{ENDING}")
    seeds = [Path(part) for part in (seed or "").split("+") if part]
    for path in (source, target, *seeds, *(part / f"{source_lang}-{target_lang}{ENDING}" for part in seeds)):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"--output {output}: would write over {path}, which is read; give another file")
    check_writable(output)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "md5").hexdigest()
