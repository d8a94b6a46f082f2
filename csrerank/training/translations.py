"""Translated training texts, for *Fine-tuning* (Litschko et al. 2023): a file of translations of the topics and passages of a training collection."""

import json
from collections.abc import Mapping
from pathlib import Path

from csrerank.errors import InputError
from csrerank.lines import read_lines

SIDES = ("query", "passage")
Translations = Mapping[tuple[str, str], tuple[str, ...]]  # (side, id) -> its translations


def read_translations(path: str | Path) -> Translations:
    """Read a JSONL file (plain or gzip) of objects with ``id``, ``side`` (``query`` or ``passage``) and ``text``; a text may have several translations.

    Raises ``InputError`` naming the line of another form.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON ({error}); each line is one object with id, side and text") from None
        if not isinstance(record, dict) or not all(isinstance(record.get(name), str) and record[name].strip() for name in ("id", "side", "text")):
            raise InputError(f"{path}:{number}: each line is one object with id, side and text, none of them empty; mend this one")
        if record["side"] not in SIDES:
            raise InputError(f"{path}:{number}: the side is {record['side']!r}; write query or passage")
        found.setdefault((record["side"], record["id"]), []).append(record["text"])
    if not found:
        raise InputError(f"{path}: no translations in it; give lines of objects with id, side and text")
    return {key: tuple(texts) for key, texts in found.items()}


def translated(translations: Translations, side: str, identifier: str, seed: int, epoch: int) -> str | None:
    """The translation of a text in an epoch, one of several drawn by (seed, epoch, side, id); None where it has none."""
    from csrerank.collections.sampling import uniform  # here, for the command line to start without ir_datasets

    texts = translations.get((side, identifier))
    return texts[int(uniform("translation", seed, epoch, side, identifier) * len(texts))] if texts else None
