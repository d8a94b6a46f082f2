"""Vocabulary trimming: keeps the Unigram pieces that a set of languages uses, so that the embedding table shrinks and segmentation does not change.

Why the segmentation of covered text stays identical: Unigram picks the best-scored path over the pieces; dropping pieces that are on no best path of that
text cannot change its best path. The lowest-scored piece is kept because it sets the cost of an unknown character.
"""

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

from csrerank.errors import InputError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def pieces_used(tokenizer_json: dict[str, Any], texts: Iterable[str]) -> set[int]:
    """Ids of the pieces on the best segmentation of each text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json))
    used: set[int] = set()
    batch: list[str] = []

    def flush() -> None:
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            used.update(encoding.ids)
        batch.clear()

    for text in texts:
        batch.append(text)
        if len(batch) == 10_000:
            flush()
    flush()
    return used


def pieces_in_scripts(tokenizer_json: dict[str, Any], scripts: Iterable[str]) -> set[int]:
    """Ids of the pieces written wholly in one of ``scripts``, by the first word of their letters' Unicode names (``THAI``, ``GREEK``); for languages that
    have no word list.
    """
    wanted = {script.upper() for script in scripts}

    def script_of(character: str) -> str:
        return unicodedata.name(character, "?").split()[0]

    return {
        number
        for number, (piece, _) in enumerate(tokenizer_json["model"]["vocab"])
        if (letters := piece.lstrip("▁")) and all(script_of(letter) in wanted for letter in letters)
    }


def kept_ids(tokenizer_json: dict[str, Any], used: Iterable[int]) -> list[int]:
    """The ids to keep, ascending: ``used``, every piece without letters and every single character (with and without the word mark), the special tokens, and
    the lowest-scored piece.
    """
    vocab = tokenizer_json["model"]["vocab"]
    kept = set(used)
    kept.update(number for number, (piece, _) in enumerate(vocab) if len(piece.removeprefix("▁")) <= 1 or not any(map(str.isalpha, piece)) or piece in SPECIAL)
    kept.add(min(range(len(vocab)), key=lambda number: vocab[number][1]))
    return sorted(kept)


def trim_tokenizer(tokenizer_json: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """A copy of ``tokenizer.json`` whose vocabulary is ``kept`` in the old order, with every id that it mentions renumbered.

    Raises ``InputError`` where the tokenizer is not Unigram or a special token would be lost.
    """
    model = tokenizer_json["model"]
    if model["type"] != "Unigram":
        raise InputError(f"a {model['type']} tokenizer cannot be trimmed; only Unigram ones (XLM-R, mT5) can")
    new = {old: number for number, old in enumerate(kept)}
    trimmed = json.loads(json.dumps(tokenizer_json))
    trimmed["model"]["vocab"] = [model["vocab"][old] for old in kept]
    try:
        trimmed["model"]["unk_id"] = new[model["unk_id"]]
        for token in trimmed["added_tokens"]:
            token["id"] = new[token["id"]]
        for token in (trimmed["post_processor"] or {}).get("special_tokens", {}).values():
            token["ids"] = [new[number] for number in token["ids"]]
    except KeyError as lost:
        raise InputError(f"special token {lost} is not among the kept pieces; use kept_ids()") from None
    return trimmed
