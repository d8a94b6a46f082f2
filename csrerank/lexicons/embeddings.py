"""Lexicons induced from word vectors: two languages' spaces mapped onto each other, then each word's nearest neighbours, plain or by CSLS."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from csrerank.cache import cache_folder
from csrerank.errors import InputError
from csrerank.lexicons import wiktionary
from csrerank.lexicons.lexicon import Entry, Lexicon, key_of
from csrerank.lexicons.registry import SOURCES, register
from csrerank.lexicons.vectors import _VERSION as _OF_VECTORS
from csrerank.lexicons.vectors import LISTED, centred, encoder_fingerprint, log_frequencies, target_words, unit, word_list, word_vectors
from csrerank.lexicons.vectors import nearest as _nearest

NEIGHBOURS = 10  # r of CSLS
PRIOR = 0.02
# The lowest hundredth from .51 on at which P@1 of what is kept is .65 or more on MUSE's first 5,000 words (benchmarks/induction.py --thresholds); rarer words
# fall below. A language that was not measured gets the strictest.
THRESHOLDS = {"de": 0.51, "es": 0.51, "it": 0.51, "nl": 0.51, "ru": 0.52, "zh": 0.53, "ar": 0.55}
ENCODER = "encoder"  # in the cache, where scripts/build_encoder puts it
SEED = wiktionary.NAME  # may be shipped, as MUSE may not
FOLDS = 4
METHODS = ("csls", "plain")
_VERSION = "2"
_WIDTH = 30  # CSLS re-ranks this many nearest neighbours


class Space(NamedTuple):
    """Both languages' unit vectors in one space, float32 [source words, dim] and [target words, dim]; ``rows`` are the places of the source words.

    ``frequencies``: log10 of the frequencies of both sides' words, where known.
    """

    rows: np.ndarray
    source: np.ndarray
    target: np.ndarray
    frequencies: tuple[np.ndarray, np.ndarray] | None = None


def procrustes(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The orthogonal [dim, dim] that turns the rows of ``source`` nearest to those of ``target``: U V' of the SVD of source' target (Schoenemann 1966).

    Rows are the seed's pairs, float32 [pairs, dim]. Raises ``InputError`` where the spaces have different dimensions.
    """
    _check_same(source, target)
    left, _, right = np.linalg.svd(source.T @ target)
    return left @ right


def reweighted(source: np.ndarray, target: np.ndarray, shrink: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Two maps [dim, dim] into a shared space, from the seed's pairs, float32 [pairs, dim]: whiten, rotate, re-weight (Artetxe et al. 2018, steps 1 to 3).

    The directions in which the pairs agree get weight, by the singular values of the whitened covariance. ``shrink`` times the mean eigenvalue is added to
    both covariances first, so that directions of little variance are not blown up.
    """
    _check_same(source, target)
    left_white, right_white = _whitening(source, shrink), _whitening(target, shrink)
    left, weights, right = np.linalg.svd(left_white @ (source.T @ target / len(source)) @ right_white)
    return left_white @ left * weights, right_white @ right.T * weights


def _whitening(vectors: np.ndarray, shrink: float) -> np.ndarray:
    values, axes = np.linalg.eigh(vectors.T @ vectors / len(vectors))
    scale = np.maximum(values, 0.0) + max(shrink * float(values.mean()), 1e-12)
    return (axes * scale**-0.5) @ axes.T


def _check_same(source: np.ndarray, target: np.ndarray) -> None:
    if not len(source):
        raise InputError("no pair of the seed dictionary has vectors on both sides; give a seed dictionary of the two languages")
    if source.shape != target.shape:
        raise InputError(f"vectors of {source.shape[1]} and of {target.shape[1]} dimensions cannot be aligned; take two files of the same kind")


def seed_pairs(seed: Lexicon, source: Sequence[str], target: Sequence[str], best: int = 2) -> np.ndarray:
    """Places (source word, target word), int [pairs, 2], of the ``best`` first translations of ``seed`` that are among ``target``."""
    places = {key_of(word): place for place, word in reversed(list(enumerate(target)))}
    pairs = []
    for row, word in enumerate(source):
        found = [places[key] for text, _, _ in seed.translations(key_of(word))[:best] if (key := key_of(text)) in places]
        pairs += [(row, place) for place in found]
    return np.array(pairs, np.int64).reshape(-1, 2)


def aligned(source: np.ndarray, target: np.ndarray, pairs: np.ndarray) -> Space:
    """Two monolingual spaces as one: both centred at unit length, the source's turned onto the target's by Procrustes over the seed's ``pairs``."""
    source, target = centred(source), centred(target)
    return Space(np.arange(len(source)), source @ procrustes(source[pairs[:, 0]], target[pairs[:, 1]]), target)


def cross_fitted(
    words: Sequence[str],
    source: np.ndarray,
    target: np.ndarray,
    pairs: np.ndarray,
    frequencies: tuple[np.ndarray, np.ndarray] | None = None,
    folds: int = FOLDS,
) -> Iterator[Space]:
    """The source words in ``folds`` parts, each mapped by ``reweighted`` over the seed's ``pairs`` of the other parts: so no word's own translation in the
    seed helps to find it, and a gold dictionary measures what induction would do for a word that no dictionary has.
    """
    source, target = centred(source), centred(target)
    fold_of = np.array([blake2b(key_of(word).encode(), digest_size=2).digest()[0] % folds for word in words])
    for fold in range(folds):
        rows = np.flatnonzero(fold_of == fold)
        known = pairs[fold_of[pairs[:, 0]] != fold]
        if not len(rows):
            continue
        own = (frequencies[0][rows], frequencies[1]) if frequencies else None
        if len(known):
            left, right = reweighted(source[known[:, 0]], target[known[:, 1]])
            yield Space(rows, unit(source[rows] @ left), unit(target @ right), own)
        else:
            yield Space(rows, source[rows], target, own)


def induce(
    source_words: Sequence[str], source_vectors: np.ndarray, target_words: Sequence[str], target_vectors: np.ndarray,
    method: str = "csls", mutual: bool = True, threshold: float = 0.0, k: int = 5,
) -> Iterator[Entry]:  # fmt: skip
    """Each source word's ``k`` best target words by their vectors, float32 [words, dim] in one space; see ``translated``."""
    space = Space(np.arange(len(source_words)), unit(source_vectors), unit(target_vectors))
    return translated([space], source_words, target_words, method, mutual, threshold, k)


# (rows, places, scores) of the candidates of each space's source words, best first; and each target word's best source word.
Ranking = tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]


def translated(
    spaces: Iterable[Space], source: Sequence[str], target: Sequence[str], method: str = "csls", mutual: bool = True, threshold: float = 0.0, k: int = 5
) -> Iterator[Entry]:
    """The ``k`` best target words of each source word, each word of which is in one of ``spaces``; words of one key (*House*, *house*) are one word. A
    word spelled like the source word is passed over.

    ``plain`` ranks by the cosine, and the score is (1 + cosine) / 2. ``csls`` ranks by 2 cos(x, y) - r(x) - r(y), where r(x) is the mean cosine of x to its
    ``NEIGHBOURS`` nearest target words and r(y) that of y to its nearest source words (Conneau et al. 2018; in a cross-fitted space among the source words of
    its fold alone), and the score is (2 + CSLS) / 4, less ``PRIOR`` times the difference of the two words' log10 frequencies where the space has these: a word
    and its translation are about equally frequent.
    ``mutual`` keeps a target word only where no other source word suits it better; ``threshold`` is the lowest score. Raises ``InputError`` for another method.
    """
    return chosen(ranked(spaces, len(target), method), source, target, mutual, threshold, k)


def ranked(spaces: Iterable[Space], targets: int, method: str) -> Ranking:
    """The first half of ``translated``, which takes the time: the candidates among ``targets`` words. Raises ``InputError`` for an unknown method."""
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; known are {' '.join(METHODS)}")
    best_score, best_row = np.full(targets, -np.inf, np.float32), np.full(targets, -1)
    candidates = []
    for space in spaces:
        places, scores, back_rows, back_scores = _ranked(space, method)
        better = back_scores > best_score
        best_score[better], best_row[better] = back_scores[better], back_rows[better]
        candidates.append((space.rows, places, scores))
    return candidates, best_row


def chosen(ranking: Ranking, source: Sequence[str], target: Sequence[str], mutual: bool, threshold: float, k: int = 5) -> Iterator[Entry]:
    """The second half of ``translated``: the entries."""
    candidates, best_row = ranking
    keys = [key_of(word) for word in target]
    kept: dict[str, dict[str, Entry]] = {}
    for rows, places, scores in candidates:
        for row, found, values in zip(rows, places, scores, strict=True):
            own, left = key_of(source[row]), k
            entries_of = kept.setdefault(own, {})
            for place, score in zip(found, values, strict=True):
                if score < threshold or not left:
                    break
                if keys[place] != own and not (mutual and best_row[place] != row):
                    entry = Entry(source[row], target[place], float(score))
                    entries_of[entry.translation] = max(entry, entries_of.get(entry.translation, entry), key=attrgetter("score"))
                    left -= 1
    for entries_of in kept.values():
        yield from sorted(entries_of.values(), key=attrgetter("score"), reverse=True)[:k]


def _ranked(space: Space, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places and scores of each source word's candidates, best first; each target word's best source word and its score."""
    near, places = _nearest(space.source, space.target, _WIDTH)
    back, sources = _nearest(space.target, space.source, NEIGHBOURS)
    if method == "csls":
        density, back_density = near[:, :NEIGHBOURS].mean(1), back[:, :NEIGHBOURS].mean(1)
        near = (2 + 2 * near - density[:, None] - back_density[places]) / 4
        back = (2 + 2 * back - back_density[:, None] - density[sources]) / 4
        if space.frequencies:
            left, right = space.frequencies
            near = near - PRIOR * np.abs(left[:, None] - right[places])
            back = back - PRIOR * np.abs(right[:, None] - left[sources])
    else:
        near, back = (1 + near) / 2, (1 + back) / 2
    order = np.argsort(-near, axis=1, kind="stable")
    first = np.argmax(back, axis=1)[:, None]
    scores = np.clip(np.take_along_axis(near, order, 1), 1e-6, 1.0)
    best = np.take_along_axis(back, first, 1)[:, 0]
    return np.take_along_axis(places, order, 1), scores, space.rows[np.take_along_axis(sources, first, 1)[:, 0]], best


def spaces_of(source_lang: str, target_lang: str) -> tuple[list[str], list[str], Iterator[Space]]:
    """The encoder's words of both languages and, cross-fitted over the seed dictionary where there is one, their spaces."""
    from csrerank.lexicons.catalogue import find, languages_of

    source, target = word_list(source_lang), target_words(target_lang)
    left, right = (np.hstack([centred(layer) for layer in word_vectors(words, cache_folder() / ENCODER, cache_folder())]) for words in (source, target))
    pairs = np.zeros((0, 2), np.int64)
    if target_lang in languages_of(SEED):
        pairs = seed_pairs(find(SEED, source_lang, target_lang), source, target)
    frequencies = (log_frequencies(source, source_lang), log_frequencies(target, target_lang))
    return source, target, cross_fitted(source, left, right, pairs, frequencies)


def entries(method: str, filtered: bool, source_lang: str, target_lang: str) -> Iterator[Entry]:
    """The lexicon induced from our encoder's vectors; ``filtered`` is for mixes: mutual neighbours that score the language's ``THRESHOLDS`` or more."""
    key = (method, source_lang, target_lang, *inputs(source_lang, target_lang).items())
    if key not in _last:
        _last.clear()
        source, target, spaces = spaces_of(source_lang, target_lang)
        _last[key] = source, target, ranked(spaces, len(target), method)
    source, target, ranking = _last[key]
    return chosen(ranking, source, target, mutual=filtered, threshold=THRESHOLDS.get(target_lang, max(THRESHOLDS.values())) if filtered else 0.0)


_last: dict[Any, tuple[list[str], list[str], Ranking]] = {}  # two of the lexicons below differ only in what they choose


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """The encoder, wordfreq, and what the seed dictionary was read from."""
    read = wiktionary.inputs(source_lang, target_lang) if target_lang in wiktionary.LANGUAGES else {}
    return {"encoder": encoder_fingerprint(cache_folder() / ENCODER), "wordfreq": version("wordfreq"), **read}


_VERSIONS = ".".join((_VERSION, _OF_VECTORS, SOURCES[SEED].version))
LICENCE = "CC BY-SA 4.0 (words of wordfreq, found with a MIT-licensed encoder, mapped over a seed of Wiktionary)"
for _name, _method, _filtered in (("induced", "csls", True), ("induced-csls", "csls", False), ("induced-plain", "plain", False)):
    register(
        _name,
        LICENCE,
        entries=partial(entries, _method, _filtered),
        languages=[lang for lang in LISTED if lang != "en"],
        inputs=inputs,
        version=f"{_VERSIONS} {THRESHOLDS}" if _filtered else _VERSIONS,
    )
