"""Encoders and cross-encoders side by side: parameters, depth, speed on this machine, and how finely their tokenizers cut each language."""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import cycle, islice
from statistics import mean, median
from typing import Any, NamedTuple

from csrerank.errors import InputError
from csrerank.lines import read_lines
from csrerank.models.backbones import load_backbone, loading
from csrerank.models.checkpoint import find_model, position_limit
from csrerank.models.precision import resolve_precision
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings
from csrerank.words import UNSPACED

FORMATS = ("table", "tsv", "json")
TOKENS = 128
SECONDS = 3.0
ROUNDS = 3  # at least; a median of fewer is the luck of one
_CPU_PAIRS = 16  # a round, so that three of a large model take seconds


class Comparison(NamedTuple):
    """A row of the table: sizes, ``pairs_per_second`` (median of rounds) at ``tokens`` a pair, ``pieces`` a word by language, and the share of them that is
    ``unknown``, the mean over languages.

    ``without_embeddings`` leaves out every lookup table, DeBERTa's relative positions too. ``layers`` counts a mean layer.
    """

    name: str
    parameters: int
    without_embeddings: int
    layers: int
    hidden: int
    vocabulary: int
    pairs_per_second: float
    tokens: int
    precision: str
    device: str
    pieces: dict[str, float]
    unknown: float


def compare(
    names: Sequence[str], texts: Mapping[str, Sequence[str]], tokens: int = TOKENS, seconds: float = SECONDS, precision: str = "auto", device: str | None = None
) -> Iterator[Comparison]:
    """A row for each model, as soon as it is measured: cross-encoders as they are, encoders with a fresh head on the first token.

    :param texts: by language; pieces are counted on them, and the pairs are cut from them.
    :param tokens: of each pair, special ones included.
    :param seconds: to measure each model for, at least three rounds.
    :raises InputError: for a model that cannot be loaded or takes fewer tokens, and where a language has no text.
    """
    for lang, of_lang in texts.items():
        if not any(text.strip() for text in of_lang):
            raise InputError(f"{lang}: no text; give some with --text {lang}=FILE")
    if not names or not texts:
        raise InputError("nothing to compare; give names of models and texts")
    for name in names:
        yield _measured(name, texts, tokens, seconds, precision, device)


def demo_texts() -> dict[str, list[str]]:
    """The passages of the demo collection, by language."""
    from csrerank.collections.demo import COLLECTION

    return {lang: [document.text for document in COLLECTION.edition(lang, "passages").documents] for lang in COLLECTION.languages}


def read_texts(given: Sequence[str]) -> dict[str, list[str]]:
    """The lines of files given as ``LANG=FILE``. Raises ``InputError`` for another form, a language given twice, or a file that cannot be read."""
    texts: dict[str, list[str]] = {}
    for part in given:
        lang, equals, path = part.partition("=")
        if not (lang and equals and path):
            raise InputError(f"--text {part}: give a language and a file, as de=FILE")
        if lang in texts:
            raise InputError(f"--text {part}: {lang} is given twice; join the files")
        texts[lang] = [line for _, line in read_lines(path)]
    return texts


def pieces_per_word(tokenizer: Any, texts: Sequence[str], lang: str) -> tuple[float, float]:
    """Pieces of the running text over its words (what stands between spaces; in Chinese, Japanese and Thai its characters), and the share of them unknown."""
    ids = [number for row in tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"] for number in row]
    words = sum(len("".join(text.split()) if lang in UNSPACED else text.split()) for text in texts)
    return len(ids) / words, ids.count(tokenizer.unk_token_id) / len(ids) if ids else 0.0


def shown(rows: Collection[Comparison], form: str = "table") -> str:
    """The rows as an aligned ``table`` with the device in a line below, as ``tsv`` with a heading, or as ``json``: a list of objects; these two with the
    values in full.
    """
    if form == "json":
        return json.dumps([row._asdict() for row in rows], indent=1)
    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; known are {' '.join(FORMATS)}")
    langs = list(dict.fromkeys(lang for row in rows for lang in row.pieces))
    if form == "tsv":
        fields = [field for field in Comparison._fields if field != "pieces"]
        lines = [[str(getattr(row, field)) for field in fields] + [str(row.pieces[lang]) for lang in langs] for row in rows]
        return "\n".join("\t".join(line) for line in [fields + [f"pieces_{lang}" for lang in langs], *lines])
    headings = ["model", "parameters", "without embeddings", "layers", "hidden", "vocabulary", "pairs/s", *langs, "unknown"]
    cells = [headings, *(_cells(row, langs) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in cells]
    ways = dict.fromkeys(f"{row.tokens} tokens a pair, {row.precision}, {row.device}" for row in rows)
    return "\n".join([*table, f"pairs/s: {'; '.join(ways)}; {' '.join(langs)}: pieces a word (zh, ja, th: a character)"])


def _cells(row: Comparison, langs: Sequence[str]) -> list[str]:
    millions = [f"{count / 1e6:.1f} M" for count in (row.parameters, row.without_embeddings)]
    sizes = [str(row.layers), str(row.hidden), str(row.vocabulary)]
    return [row.name, *millions, *sizes, f"{row.pairs_per_second:.1f}", *(f"{row.pieces[lang]:.2f}" for lang in langs), f"{row.unknown:.2%}"]


def _measured(name: str, texts: Mapping[str, Sequence[str]], tokens: int, seconds: float, precision: str, device: str | None) -> Comparison:
    import torch

    reranker = _loaded(name, tokens, precision, device)
    model, tokenizer = reranker.model, reranker.tokenizer
    tables = sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Embedding))
    total = sum(weight.numel() for weight in model.parameters())
    cuts = {lang: pieces_per_word(tokenizer, of_lang, lang) for lang, of_lang in texts.items()}
    where = torch.cuda.get_device_name(reranker.device) if reranker.device.type == "cuda" else f"{reranker.device.type}, {torch.get_num_threads()} threads"
    return Comparison(
        name, total, total - tables, model.config.num_hidden_layers, model.config.hidden_size, model.config.vocab_size, _speed(reranker, texts, seconds),
        tokens, reranker.settings.precision, where, {lang: cut for lang, (cut, _) in cuts.items()}, mean(share for _, share in cuts.values()),
    )  # fmt: skip


def _loaded(name: str, tokens: int, precision: str, device: str | None) -> Reranker:
    import torch
    from transformers import AutoConfig

    with loading(name):
        config = AutoConfig.from_pretrained(find_model(name), trust_remote_code=False)
    settings = Settings(
        tokens, max(1, tokens // 4), precision=resolve_precision(precision, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    )
    if any(head.endswith("ForSequenceClassification") for head in config.architectures or []) and config.num_labels in (1, 2):
        # Loaded at a length that every model takes, to be able to say what this one does.
        loaded = Reranker.load(name, Settings(8, 1, precision=settings.precision), device)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        model, tokenizer = load_backbone(name)
    limit = position_limit(model, tokenizer)
    if not 16 <= tokens <= limit:
        raise InputError(f"--tokens {tokens}: {name} takes {limit}; give 16 to {limit}")
    return Reranker(model, tokenizer, settings, device)


def _speed(reranker: Reranker, texts: Mapping[str, Sequence[str]], seconds: float) -> float:
    """Pairs a second, the median of rounds after one to warm up; pairs that fill the length exactly."""
    tokens = reranker.settings.max_length
    words = [word for of_lang in texts.values() for text in of_lang for word in text.split()]
    query = " ".join(islice(cycle(words), tokens))  # a word gives a piece or more
    pairs = _CPU_PAIRS if reranker.device.type == "cpu" else max(1, (reranker.settings.batch_tokens or 0) // tokens)
    # Numbered, because a pair of texts is scored once in a call.
    passages = [f"{number} {query}" for number in range(pairs)]
    rates: list[float] = []
    reranker.score(query, passages)
    end = time.perf_counter() + seconds
    while len(rates) < ROUNDS or time.perf_counter() < end:
        reranker.encoder.forget()  # tokenising counts
        start = time.perf_counter()
        reranker.score(query, passages)
        rates.append(pairs / (time.perf_counter() - start))
    return median(rates)
