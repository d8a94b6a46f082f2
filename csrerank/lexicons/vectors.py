"""Word vectors: read from a ``.vec`` file as fastText and MUSE publish them, or made by our own encoder of wordfreq's most frequent words."""

import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from csrerank.errors import InputError
from csrerank.files import atomic
from csrerank.languages import LANGUAGES, language
from csrerank.lines import read_lines, source_name

UNLISTED = ("te", "th")  # wordfreq has no list
LISTED = tuple(code for code in LANGUAGES if code not in UNLISTED)
WORDS = 40_000  # of a language, the most frequent
_VERSION = "2"  # of how the encoder's vectors are made: raise it when they change
_BATCH = 512
_PIECES = 62  # of a word; wordfreq's longest has fewer
_SAMPLES, _SAMPLE = 64, 1 << 16


def read_vec(path: str | Path, limit: int | None = None, quiet: bool = True) -> tuple[list[str], np.ndarray]:
    """The words of a ``.vec`` text file (plain or gzip) and their vectors, float32 [words, dim].

    The first line is ``count dim``; each further line is a word and ``dim`` numbers apart by single spaces. A word may hold spaces of any kind; one that
    comes again is left out. ``limit`` reads only the first words, which are the most frequent. Progress is shown on a terminal unless ``quiet``. Raises
    ``InputError`` at the first line of another form, and where there are fewer words or more dimensions than the first line says.
    """
    from tqdm import tqdm

    name = source_name(path)
    lines = read_lines(path)
    number, first = next(lines)
    heading = first.split()
    if len(heading) != 2 or not all(part.isdecimal() and int(part) for part in heading):
        raise InputError(f"{name}:{number}: a .vec file starts with a line of two numbers, words and dimensions; put it back")
    count, dim = int(heading[0]), int(heading[1])
    wanted = count if limit is None else min(limit, count)
    words: dict[str, None] = {}
    vectors = []
    read = 0
    for number, line in tqdm(islice(lines, wanted), total=wanted, desc=f"reading {name}", unit="word", leave=False, disable=quiet or not sys.stderr.isatty()):
        read += 1
        # From the right, at the plain space only: fastText's words hold U+00A0 and its like.
        word, *numbers = line.rstrip(" ").rsplit(" ", dim)
        if len(numbers) != dim or not word:
            raise InputError(f"{name}:{number}: {len(numbers)} numbers behind the word where the first line says {dim}; mend the line or the file's first one")
        try:
            vector = np.array(numbers, np.float32)
        except ValueError as error:
            raise InputError(f"{name}:{number}: not a number in the vector ({error}); mend the line") from None
        if not np.isfinite(vector).all():
            raise InputError(f"{name}:{number}: a vector with an infinite or missing number; remove the line")
        if word not in words:
            words[word] = None
            vectors.append(vector)
    if read < wanted:
        raise InputError(f"{name}: {read} words where the first line says {count}; the file was cut off, fetch it again")
    if _hold_numbers(words):
        raise InputError(f"{name}:1: {dim} dimensions, but there are more numbers behind every word; put the right number of dimensions there")
    return list(words), np.stack(vectors)


def _hold_numbers(words: Collection[str]) -> bool:
    """Whether each of the words ends in a number: some do in themselves (*apollo 11*), but all of them only where too few dimensions were cut off."""
    return all(" " in word and _is_number(word.rpartition(" ")[2]) for word in words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def unit(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` [..., dim] scaled to length 1; those of zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def centred(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` [rows, dim] at length 1, moved so that their mean is zero, and at length 1 again (Artetxe et al. 2016)."""
    scaled = unit(vectors)
    return unit(scaled - scaled.mean(axis=0))


def nearest(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and places of the ``count`` nearest ``vectors`` of each query, exactly: float32 and int64 [queries, count]."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    similarity, places = index.search(np.ascontiguousarray(queries, np.float32), min(count, len(vectors)))
    return similarity, places


def word_list(lang: str, count: int = WORDS) -> list[str]:
    """wordfreq's ``count`` most frequent words of ``lang`` that hold a letter, lower-cased as it has them. ``InputError`` for a language without a list."""
    if language(lang).code in UNLISTED:
        raise InputError(f"{lang}: wordfreq has no word list for {language(lang).name}; lexicons can be induced for {' '.join(LISTED)}")
    from wordfreq import iter_wordlist

    return list(islice((word for word in iter_wordlist(lang) if any(letter.isalpha() for letter in word)), count))


def target_words(lang: str, count: int = WORDS) -> list[str]:
    """``word_list`` without the words that wordfreq finds more often in English: a list of web text in any language is full of these, and an English word
    translated into itself switches nothing."""
    from wordfreq import get_frequency_dict

    english, own = get_frequency_dict("en"), get_frequency_dict(lang)
    return [word for word in word_list(lang, count) if english.get(word, 0.0) <= own[word]]


def encoder_fingerprint(directory: Path) -> str:
    """A hash of an encoder's directory, made in milliseconds: configuration and tokenizer whole, of the weights their size and 64 samples of 64 KiB.

    Raises ``InputError`` where there is no encoder.
    """
    weights = directory / "model.safetensors"
    if not weights.exists() or not (directory / "config.json").exists():
        raise InputError(f"{directory}: no encoder there to induce a lexicon with; make it with scripts/build_encoder")
    digest = blake2b(digest_size=16)
    for path in sorted(directory.glob("*.json")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    size = weights.stat().st_size
    digest.update(str(size).encode())
    with weights.open("rb") as file:
        for place in range(_SAMPLES):
            file.seek(place * max(0, size - _SAMPLE) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def log_frequencies(words: Sequence[str], lang: str) -> np.ndarray:
    """log10 of wordfreq's frequencies of words of its list: float32 [words]."""
    from wordfreq import get_frequency_dict

    known = get_frequency_dict(lang)
    return np.log10(np.array([known[word] for word in words], np.float32))


def word_vectors(words: Sequence[str], encoder: Path, cache: Path, quiet: bool = False) -> np.ndarray:
    """Vectors of single words by a bi-encoder, float32 [2, words, hidden]: the middle and the last layer. Kept in ``cache``, named by encoder and words, and
    made again where what is kept is damaged. Progress is shown on a terminal unless ``quiet``.

    A word is embedded as it is and with a capital (the tokenizer knows a German noun or a name only so), without E5's prefix; each time the mean over its
    pieces, without the special tokens. The two are added at length 1. docs/lexicons-quality.md has the figures of what else was tried.
    """
    key = sha256("\x1f".join([_VERSION, encoder_fingerprint(encoder), *words]).encode()).hexdigest()
    path = cache / "word-vectors" / f"{key}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError, SyntaxError, TokenError, TypeError):  # what a damaged file makes numpy raise
        kept = np.load(path, allow_pickle=False)
        if kept.dtype == np.float16 and kept.ndim == 3 and kept.shape[:2] == (2, len(words)):
            return kept.astype(np.float32)
    from csrerank.models.embedding import Embedder

    embedder = Embedder.load(encoder)
    cased = [word[:1].upper() + word[1:] for word in words]
    vectors = _pooled(embedder.model, embedder.tokenizer, words, quiet)
    changed = [row for row, word in enumerate(words) if cased[row] != word]
    if changed:
        vectors[:, changed] += _pooled(embedder.model, embedder.tokenizer, [cased[row] for row in changed], quiet)
    made = unit(vectors).astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        np.save(stream, made)
    return made.astype(np.float32)


def _pooled(model: Any, tokenizer: Any, words: Sequence[str], quiet: bool = True) -> np.ndarray:
    """The mean of each word's pieces in the middle and in the last layer, at length 1: float32 [2, words, hidden]."""
    import torch
    from tqdm import tqdm

    layers = (max(1, model.config.num_hidden_layers // 2), model.config.num_hidden_layers)
    encoded = [[tokenizer.bos_token_id, *ids[:_PIECES], tokenizer.eos_token_id] for ids in tokenizer(list(words), add_special_tokens=False)["input_ids"]]
    order = sorted(range(len(words)), key=lambda row: (len(encoded[row]), row))
    vectors = np.zeros((len(layers), len(words), model.config.hidden_size), np.float32)
    bar = tqdm(total=len(words), desc="word vectors", unit="word", leave=False, disable=quiet or not sys.stderr.isatty())
    with bar, torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, return_tensors="pt")
            states = model(**batch, output_hidden_states=True).hidden_states
            mask = batch["attention_mask"].float()
            lengths = mask.sum(1).long()
            mask[:, 0] = 0.0
            mask[torch.arange(len(rows)), lengths - 1] = 0.0
            for place, layer in enumerate(layers):
                pooled = (states[layer].float() * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
                vectors[place, rows] = pooled.numpy()
            bar.update(len(rows))
    return unit(vectors)
