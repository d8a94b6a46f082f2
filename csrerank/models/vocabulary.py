"""Vocabulary trimming: keeps the pieces that given texts or languages use, so that the embedding table shrinks.

Text whose pieces are all kept, as any text that a vocabulary is trimmed by, is cut as before, and the model gives exactly the same for it:

- Unigram (XLM-R, mDeBERTa, multilingual MiniLM) picks the best-scored path over the pieces; dropping pieces that are on no best path of that text cannot
  change its best path. The lowest-scored piece is kept because it sets the cost of an unknown character.
- WordPiece (mBERT, LaBSE) takes the longest piece that fits, again and again from a word's left. What was the longest stays so when others go.

Other text may be cut otherwise; in WordPiece not only where the lost piece was, since a shorter one in its place moves the beginnings of all that follow. All
pieces of one character are kept, ``c`` and ``##c`` alike. So a word that was known becomes unknown only if the vocabulary never had one of its characters alone
(as ``c`` at its beginning, as ``##c`` inside); what counts is the word as normalised: lower-cased and without accents, where the tokenizer does so.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from csrerank.errors import InputError

_BYTE = re.compile("<0x[0-9A-F]{2}>")  # with byte_fallback, characters without a piece are spelt in these


def pieces_used(tokenizer_json: dict[str, Any], texts: Iterable[str]) -> set[int]:
    """Ids of the pieces that each text is cut into, whole: a truncation that the file asks for is left out."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
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
    wanted, mark = {script.upper() for script in scripts}, _mark(tokenizer_json["model"])

    def script_of(character: str) -> str:
        return unicodedata.name(character, "?").split()[0]

    return {
        number
        for number, piece in _pieces(tokenizer_json["model"]).items()
        if (letters := piece.lstrip(mark)) and all(script_of(letter) in wanted for letter in letters)
    }


def kept_ids(tokenizer_json: dict[str, Any], used: Iterable[int]) -> list[int]:
    """The ids to keep, ascending: ``used``, every piece without letters and every single character (with and without the word mark), the special and other
    added tokens, and, of a Unigram vocabulary, the lowest-scored piece and those of bytes. Raises ``InputError`` for a tokenizer of another kind.
    """
    model = tokenizer_json["model"]
    mark, pieces = _mark(model), _pieces(model)
    kept = set(used) | _special_ids(tokenizer_json)
    kept.update(number for number, piece in pieces.items() if len(piece.removeprefix(mark)) <= 1 or not any(map(str.isalpha, piece)))
    if model["type"] == "Unigram":
        if model.get("byte_fallback"):
            kept.update(number for number, piece in pieces.items() if _BYTE.fullmatch(piece))
        kept.add(min(pieces, key=lambda number: model["vocab"][number][1]))
    return sorted(kept)


def trim_tokenizer(tokenizer_json: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """A copy of ``tokenizer.json`` whose vocabulary is ``kept`` (ascending), with every id that it mentions renumbered: the new id of ``kept[n]`` is ``n``.

    Raises ``InputError`` where the tokenizer is neither Unigram nor WordPiece or a special token would be lost.
    """
    pieces = _pieces(tokenizer_json["model"])
    new = {old: number for number, old in enumerate(kept)}
    trimmed = json.loads(json.dumps(tokenizer_json))
    model = trimmed["model"]
    inside = [old for old in kept if old in pieces]  # added tokens that are no pieces of the model come behind these, and stay there
    try:
        if model["type"] == "Unigram":
            model["vocab"] = [model["vocab"][old] for old in inside]
            model["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
        else:
            model["vocab"] = {pieces[old]: new[old] for old in inside}
        for token in trimmed["added_tokens"]:
            token["id"] = new[token["id"]]
        if padding := trimmed.get("padding"):
            padding["pad_id"] = new[padding["pad_id"]]
        _renumber(trimmed["post_processor"] or {}, new)
    except KeyError as lost:
        raise InputError(f"special token {lost} is not among the kept pieces; use kept_ids()") from None
    return trimmed


def save_trimmed(model: Any, tokenizer: Any, texts: Iterable[str], output: str | Path) -> Path:
    """Trim a model and its tokenizer to what ``texts`` use (:func:`kept_ids`), and save both in the new folder ``output``, which plain transformers loads.

    ``model`` is an encoder or cross-encoder of one of ``backbones.FAMILIES``, and is trimmed in place: the rows of its embeddings, and in its configuration
    ``vocab_size`` and the special tokens' ids. ``tokenizer`` stays as it is.

    Raises ``InputError`` for no text, a folder that holds something, a tokenizer that is neither Unigram nor WordPiece or does not fit the model, a model of
    another family or with a language-model head, and special tokens' ids in the configuration that the tokenizer lacks.
    """
    from transformers import AutoTokenizer

    from csrerank.models.checkpoint import save_tokenizer

    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: there already; give a new folder")
    _check_model(model, tokenizer)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    used = pieces_used(whole, texts)
    if not used:
        raise InputError("no text to trim the vocabulary by; give texts in the languages that the model is for")
    kept = kept_ids(whole, used | set(_config_ids(model.config).values()))
    trimmed = trim_tokenizer(whole, kept)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent) as name:  # appears whole, by rename
        folder = Path(name) / "trimmed"
        model.config.save_pretrained(folder)  # which the tokenizer's class is told by
        save_tokenizer(tokenizer, folder)
        (folder / "tokenizer.json").write_text(json.dumps(trimmed, ensure_ascii=False), encoding="utf-8")
        _mend_settings(folder / "tokenizer_config.json", trimmed)
        # Some of transformers' classes build the tokenizer anew from its pieces, and might number them otherwise.
        if AutoTokenizer.from_pretrained(folder).get_vocab() != {token: at for at, token in enumerate(tokenizer.convert_ids_to_tokens(kept))}:
            raise InputError(f"a {type(tokenizer).__name__} gives the pieces kept other ids when loaded; load it as a PreTrainedTokenizerFast")
        _keep_rows(model, kept)
        model.save_pretrained(folder)
        folder.rename(output)
    return output


def _check_model(model: Any, tokenizer: Any) -> None:
    from csrerank.models.backbones import FAMILIES

    if model.config.model_type not in FAMILIES:
        raise InputError(f"a {model.config.model_type} model cannot be trimmed; give an encoder of {', '.join(FAMILIES)}")
    if model.get_output_embeddings() is not None:
        raise InputError(f"a {type(model).__name__} has a language-model head over the vocabulary; load it without, by AutoModel or load_backbone()")
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"a {type(tokenizer).__name__} is not of the tokenizers library and cannot be trimmed; load it as a fast one")
    ids, rows = set(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if max(ids) >= rows:
        raise InputError(f"the tokenizer gives ids up to {max(ids)}, the embeddings have {rows} rows; give the tokenizer of this model")
    if strange := {name: number for name, number in _config_ids(model.config).items() if number not in ids}:
        raise InputError(f"the tokenizer lacks {', '.join(f'{name} {number}' for name, number in strange.items())} of the model's config.json; mend that")


def _keep_rows(model: Any, kept: list[int]) -> None:
    """Keep the rows ``kept`` of the input embeddings, and renumber the special tokens in the configuration."""
    import torch

    table, new = model.get_input_embeddings(), {old: number for number, old in enumerate(kept)}
    origin = getattr(model.base_model.embeddings, "padding_idx", None)  # RoBERTa's kin count positions from it
    if origin is not None and new[origin] != origin:
        raise InputError(f"padding would move from id {origin} to {new[origin]}, and a {model.config.model_type} counts positions from it; cannot be trimmed")
    padding = None if table.padding_idx is None else new[table.padding_idx]
    rows = table.weight.detach()[kept]
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows, freeze=not table.weight.requires_grad, padding_idx=padding))
    model.config.vocab_size = len(kept)
    for name, number in _config_ids(model.config).items():
        setattr(model.config, name, new[number])


def _mark(model: Mapping[str, Any]) -> str:
    """What tells a piece at a word's beginning from one inside: XLM-R marks the former, WordPiece the latter."""
    if model["type"] == "Unigram":
        return "▁"
    if model["type"] == "WordPiece":
        return str(model["continuing_subword_prefix"])
    raise InputError(f"a {model['type']} tokenizer cannot be trimmed; only Unigram (XLM-R, mDeBERTa) and WordPiece ones (mBERT, LaBSE) can")


def _pieces(model: Mapping[str, Any]) -> dict[int, str]:
    _mark(model)  # refuses other kinds
    if model["type"] == "Unigram":
        return {number: piece for number, (piece, _) in enumerate(model["vocab"])}
    return {number: piece for piece, number in model["vocab"].items()}


def _special_ids(tokenizer_json: dict[str, Any]) -> set[int]:
    """Added tokens, which the special ones are among, and the unknown piece."""
    model = tokenizer_json["model"]
    unknown = model["unk_id"] if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])
    return ({unknown} - {None}) | {token["id"] for token in tokenizer_json["added_tokens"]}


def _renumber(processor: dict[str, Any], new: Mapping[int, int]) -> None:
    """Renumber a post-processor of ``tokenizer.json``: a template, BERT's or RoBERTa's own, or several in sequence."""
    for part in processor.get("processors", []):
        _renumber(part, new)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[number] for number in token["ids"]]
    for side in {"cls", "sep"} & processor.keys():
        piece, number = processor[side]
        processor[side] = [piece, new[number]]


def _config_ids(config: Any) -> dict[str, int]:
    """The special tokens' ids of a model's configuration, by name."""
    return {name: number for name, number in config.to_dict().items() if name.endswith("_token_id") and number is not None}


def _mend_settings(path: Path, trimmed: dict[str, Any]) -> None:
    """DeBERTa's tokenizer writes the unknown piece's id into ``tokenizer_config.json`` too."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    if "unk_id" in settings:
        settings["unk_id"] = trimmed["model"]["unk_id"]
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
