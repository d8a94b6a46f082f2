"""Words held out of training: validation texts switch them all, so what validation measures includes words that training never switched."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

from csrerank.codeswitch.tables import Lexicons
from csrerank.lexicons.lexicon import Lexicon, Translation, key_of

SHARE = 0.1


def is_held_out(key: str, share: float = SHARE) -> bool:
    """Whether a word belongs to the held-out ``share``: a draw keyed by its English lemma (simplemma's) alone, so it is the same in every language and system,
    and *war* shows nothing of *wars*. A phrase is held out with any of its words.
    """
    return any(_draw(word) < share * 2**64 for word in key.split())


@lru_cache(maxsize=500_000)
def _draw(word: str) -> int:
    return int.from_bytes(blake2b(_lemma(word).encode("utf-8", "surrogatepass"), digest_size=8, person=b"held-out").digest(), "big")


def _lemma(word: str) -> str:
    """What all forms of a word lead to. The lemma of a lemma may be another word again; of those that lead round in a circle, the first of the alphabet."""
    import simplemma

    seen: list[str] = []
    while word not in seen:
        seen.append(word)
        word = key_of(simplemma.lemmatize(word, lang="en"))
    return min(seen[seen.index(word) :])


def _lemmas_from() -> str:
    from importlib.metadata import version

    return f"simplemma {version('simplemma')}"


class Without(Lexicon):
    """A lexicon without the held-out words."""

    def __init__(self, lexicon: Lexicon, share: float = SHARE) -> None:
        self._lexicon, self._share = lexicon, share
        self.source_lang, self.target_lang, self.sources, self.longest = lexicon.source_lang, lexicon.target_lang, lexicon.sources, lexicon.longest
        self.fingerprint = blake2b(f"{lexicon.fingerprint} without {share} of lemmas {_lemmas_from()}".encode(), digest_size=16).hexdigest()

    def translations(self, key: str) -> tuple[Translation, ...]:
        """None for a held-out word."""
        return () if is_held_out(key, self._share) else self._lexicon.translations(key)

    def prefixes(self, text: str) -> list[str]:
        """The keys that ``text`` starts with and that are not held out."""
        return [key for key in self._lexicon.prefixes(text) if not is_held_out(key, self._share)]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._lexicon if not is_held_out(key, self._share))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class TrainingLexicons(Lexicons):
    """The lexicons of a training: the catalogue's, without the held-out words."""

    def find(self, mix: str, source_lang: str, target_lang: str) -> Lexicon:
        """The lexicon of this name, without the held-out words. Raises ``InputError`` where there is none for the pair."""
        name = (mix, source_lang, target_lang)
        if name not in self._found or not isinstance(self._found[name], Without):
            self._found[name] = Without(super().find(*name))
        return self._found[name]
