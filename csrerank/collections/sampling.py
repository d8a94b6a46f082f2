"""Keyed draws: which language a document or a topic of a multilingual track gets, and which part an article belongs to. Every draw depends on its key alone."""

from collections.abc import Sequence
from hashlib import blake2b

SEED = 2023


def uniform(*key: str | int) -> float:
    """A number in [0, 1) that depends on ``key`` alone: 53 bits of BLAKE2b over its parts, joined by a unit separator."""
    digest = blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def draw_language(languages: Sequence[str], kind: str, identifier: str, seed: int = SEED) -> str:
    """The language of this document or topic (``kind``: ``doc`` or ``query``) in an MLIR track: one uniform draw for each id, as Litschko et al. (2023)
    sample theirs.
    """
    return languages[int(uniform("language", kind, seed, identifier) * len(languages))]
