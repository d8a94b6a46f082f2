"""The shipped checkpoint: packs a Hugging Face directory into at most 50 MB, and unpacks it, hash-checked, into a cache at first use.

A packed folder holds ``manifest.json``, ``model.safetensors`` (weights encoded as below), ``tokenizer.json.xz`` and the small text
files as they are. The encoding of each tensor NAME stands in the safetensors metadata under ``csrerank``:

- ``fp32``: NAME as it is; everything that is not a matrix of at least 2 x 2.
- ``fp16``: NAME float16; position embeddings (int8 would move scores much farther, to save 0.2 MB).
- ``int8``: NAME int8 [rows, columns] and NAME:scale float32 [rows]; w = code x scale, symmetric.
- ``q4``: NAME uint8 [rows, columns / 2] and NAME:scale float16 [rows, columns / 32]; Q4_0 blocks of 32 along the row as ``models.e5``
  reads them: low nibble of byte j is weight j, high nibble weight j + 16, w = (nibble - 8) x scale. Only where that is exact.

Every decoding is at most one float32 product a weight, so the unpacked files are the same bytes on every machine, and the manifest can
name their hashes.
"""

import hashlib
import json
import lzma
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from csrerank.errors import InputError

FORMAT = 1
LIMIT = 50_000_000  # bytes of a packed folder, manifest included
MANIFEST, MODEL, TOKENIZER = "manifest.json", "model.safetensors", "tokenizer.json"
PACKED_TOKENIZER = TOKENIZER + ".xz"
TEXTS = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "README.md", "LICENSE", "NOTICE")
NEEDED = ("config.json", MODEL, TOKENIZER, "tokenizer_config.json")
Q4_BLOCK = 32
CHUNK = 1 << 16  # Q4 blocks looked at together: bounds memory, and ends early on a tensor that is not Q4
SCALE = ":scale"
REINSTALL = "reinstall csrerank (pip install --force-reinstall --no-deps csrerank), or pack the checkpoint again"


def encode_q4(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Codes (uint8 [rows, columns / 2]) and scales (float16 [rows, columns / 32]) of a float32 matrix that came out of Q4_0 blocks.

    None unless decoding gives every weight back (``==`` in float32, which is blind to the sign of a zero only).
    """
    rows, columns = weights.shape
    if columns % Q4_BLOCK:
        return None
    blocks = weights.reshape(-1, Q4_BLOCK)
    codes, scales = np.empty((len(blocks), Q4_BLOCK // 2), np.uint8), np.empty(len(blocks), np.float16)
    for start in range(0, len(blocks), CHUNK):
        found = _q4_blocks(blocks[start : start + CHUNK])
        if found is None:
            return None
        codes[start : start + CHUNK], scales[start : start + CHUNK] = found
    return codes.reshape(rows, columns // 2), scales.reshape(rows, columns // Q4_BLOCK)


def _q4_blocks(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Codes [blocks, 16] and scales [blocks] of ``blocks`` [blocks, 32], or None.

    A block's weight of largest magnitude is tried as each nibble in turn, -8 first, which it is in all that Q4_0's quantiser writes.
    """
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    nibbles, scales = np.full(blocks.shape, 8, np.uint8), np.zeros(len(blocks), np.float16)
    pending = np.flatnonzero(largest)  # an all-zero block is done: scale 0, nibble 8
    for nibble in sorted((n for n in range(-8, 8) if n), key=lambda n: (-abs(n), n)):
        if not len(pending):
            break
        # A candidate scale that is too large or too small for float16 makes inf or nan here, and those are not equal to the weights.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scale = (largest[pending] / np.float32(nibble)).astype(np.float16)
            units = np.clip(np.rint(blocks[pending] / scale.astype(np.float32)), -8, 7)
            exact = (units * scale.astype(np.float32) == blocks[pending]).all(axis=1)
        nibbles[pending[exact]] = (units[exact] + 8).astype(np.uint8)
        scales[pending[exact]] = scale[exact, 0]
        pending = pending[~exact]
    if len(pending):
        return None
    return nibbles[:, : Q4_BLOCK // 2] | (nibbles[:, Q4_BLOCK // 2 :] << 4), scales


def encode_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int8 [rows, columns]) and scales (float32 [rows], a row's largest magnitude / 127 to 16 bits) of a finite float32 matrix.

    No weight moves by more than half its row's scale. Codes times scales of 16 bits are exact, so that what is decoded encodes to the same again.
    """
    mantissas, exponents = np.frexp(np.abs(weights).max(axis=1) / np.float32(127))
    scales = np.ldexp(np.rint(mantissas * 65536) / np.float32(65536), exponents)
    divisor = np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.clip(np.rint(weights / divisor), -127, 127).astype(np.int8), scales


def encode(name: str, weights: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
    """The encoding of the float32 tensor ``name`` and what to store for it, by name."""
    if weights.ndim != 2 or 1 in weights.shape:
        return "fp32", {name: weights}
    if (blocks := encode_q4(weights)) is not None:
        return "q4", {name: blocks[0], name + SCALE: blocks[1]}
    if "position_embeddings" in name and np.abs(weights).max() <= np.finfo(np.float16).max:
        return "fp16", {name: weights.astype(np.float16)}
    codes, scales = encode_int8(weights)
    return "int8", {name: codes, name + SCALE: scales}


def decode(encoding: str, codes: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """The float32 weights behind ``codes`` and ``scales``; the inverse of ``encode``. Raises ``InputError`` for an unknown encoding."""
    if encoding in ("fp32", "fp16"):
        return codes.astype(np.float32, copy=False)
    if encoding == "int8" and scales is not None:
        return codes * scales[:, None]
    if encoding == "q4" and scales is not None:
        rows, half = codes.shape
        blocks = codes.reshape(-1, 1, Q4_BLOCK // 2)
        weights = np.empty((len(blocks), 2, Q4_BLOCK // 2), np.float32)
        scale = scales.reshape(-1, 1).astype(np.float32)
        for part, nibbles in enumerate((blocks & 15, blocks >> 4)):
            np.multiply(nibbles[:, 0].view(np.int8) - np.int8(8), scale, out=weights[:, part])
        return weights.reshape(rows, 2 * half)
    raise InputError(f"{MODEL}: encoding {encoding!r} is unknown to this csrerank; update csrerank")


def pack(directory: str | Path, target: Path, name: str | None = None) -> dict[str, Any]:
    """Pack the checkpoint ``directory`` (config, float32 safetensors, tokenizer; a README where there is one) into the folder ``target``.

    The same checkpoint and ``name`` (the directory's own by default) give the same bytes, as long as the xz and safetensors libraries
    are the same; so does what ``unpack`` made of them. A folder that ``pack`` wrote is replaced. Returns the manifest and, beside it, ``encodings`` (by tensor),
    ``packed_bytes`` (by file), ``total_bytes``, and ``left_out`` (files of ``directory`` that a packed checkpoint does not carry).

    Raises ``InputError`` where a file is missing, a tensor is not finite float32, ``target`` holds something else, or the result would
    be larger than ``LIMIT``.
    """
    directory, target = Path(directory), Path(target)
    name = directory.resolve().name if name is None else name
    if not _is_plain(name):
        raise InputError(f"{name!r} cannot name a folder; give name= letters, digits, dots, dashes and underscores")
    if missing := [file for file in NEEDED if not (directory / file).is_file()]:
        raise InputError(f"{directory / missing[0]}: no such file; give a Hugging Face directory with safetensors and a fast tokenizer")
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise InputError(f"{target}: holds files but no {MANIFEST}, so it is no packed checkpoint; name a new or an empty folder")
    files = {file: (directory / file).read_bytes() for file in TEXTS if (directory / file).is_file()}
    files[PACKED_TOKENIZER] = lzma.compress((directory / TOKENIZER).read_bytes(), preset=6)
    files[MODEL], encodings = _pack_model(directory / MODEL)
    manifest = _manifest(name, files)
    files[MANIFEST] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    total = sum(map(len, files.values()))
    if total > LIMIT:
        raise InputError(
            f"{directory}: packs into {total:,} bytes where {LIMIT:,} are allowed; trim the vocabulary, drop layers, "
            "or keep the embedding table frozen so that it packs as q4"
        )
    _write_packed(files, target)
    left_out = sorted(path.name for path in directory.iterdir() if path.name not in (*NEEDED, *TEXTS))
    sizes = {file: len(content) for file, content in sorted(files.items())}
    return {**manifest, "encodings": encodings, "packed_bytes": sizes, "total_bytes": total, "left_out": left_out}


def _pack_model(path: Path) -> tuple[bytes, dict[str, str]]:
    """The packed safetensors file of the float32 one at ``path``, and the encoding of each tensor."""
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save

    encodings: dict[str, str] = {}
    stored: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, framework="numpy") as model:
            for name in sorted(model.keys()):
                if (dtype := model.get_slice(name).get_dtype()) != "F32":
                    raise InputError(f"{path}: tensor {name} is {dtype} where F32 is needed; save the checkpoint in float32")
                weights = model.get_tensor(name)
                if not np.isfinite(weights).all():
                    raise InputError(f"{path}: tensor {name} holds NaN or infinity; take a checkpoint from before the training diverged")
                encodings[name], parts = encode(name, weights)
                stored |= parts
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error}); save the checkpoint again") from error
    # One metadata key, because safetensors writes several in the order of a hash table, which changes from run to run.
    return save(stored, metadata={"csrerank": json.dumps(encodings, sort_keys=True)}), encodings


def _manifest(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    """The manifest of the packed ``files``; unpacks them aside, to know what must come out."""
    with TemporaryDirectory() as folder:
        _write_unpacked(files, Path(folder))
        unpacked = sorted(Path(folder).iterdir())
        return {
            "format": FORMAT,
            "name": name,
            "files": {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())},
            "unpacked": {path.name: _sha256(path) for path in unpacked},
            "unpacked_bytes": {path.name: path.stat().st_size for path in unpacked},
        }


def _write_packed(files: dict[str, bytes], target: Path) -> None:
    """Put ``files`` in place of what ``pack`` wrote before; the manifest goes first and comes last, so a folder with one is whole."""
    target.mkdir(parents=True, exist_ok=True)
    for file in (MANIFEST, MODEL, PACKED_TOKENIZER, *TEXTS):
        (target / file).unlink(missing_ok=True)
    for file, content in files.items():
        if file != MANIFEST:
            (target / file).write_bytes(content)
    (target / MANIFEST).write_bytes(files[MANIFEST])


def unpack(packed: Path, cache: Path, verify: bool = False) -> Path:
    """The Hugging Face directory of the packed folder ``packed``: ``cache``/NAME-HASH, where HASH is the manifest's.

    At first use, every packed file's SHA-256 is checked, the files are unpacked into a temporary sibling folder, every unpacked file's
    SHA-256 is checked, and the folder is renamed; of several processes the first to rename wins and the others use its folder. Later
    calls read neither the packed files nor the 0.3 GB of unpacked ones: they check that each unpacked file is there with its size.
    A change that keeps the size is therefore found only with ``verify=True``, which hashes them all.

    Raises ``InputError`` that names the file and the mend where a hash or a size differs, a file is missing, or ``cache`` cannot be
    written.
    """
    packed, cache = Path(packed), Path(cache)
    manifest, digest = _read_manifest(packed)
    folder = cache / f"{manifest['name']}-{digest[:16]}"
    if not folder.is_dir():
        _unpack_into(packed, manifest, folder)
    _check_unpacked(folder, manifest, verify, f"delete the folder {folder}, and the next use unpacks it again")
    return folder


def _read_manifest(packed: Path) -> tuple[dict[str, Any], str]:
    """The manifest in ``packed`` and its SHA-256. Only names that ``pack`` writes pass, so no manifest can lead out of the cache."""
    path = packed / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a manifest ({error}); {REINSTALL}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise InputError(f"{path}: format {found} where this csrerank reads {FORMAT}; update csrerank")
    if found != FORMAT or not _is_manifest(manifest):
        raise InputError(f"{path}: not a manifest as csrerank writes it; {REINSTALL}")
    return manifest, hashlib.sha256(content).hexdigest()


def _is_manifest(manifest: dict[str, Any]) -> bool:
    files, unpacked, sizes = (manifest.get(key) for key in ("files", "unpacked", "unpacked_bytes"))
    if not (isinstance(files, dict) and isinstance(unpacked, dict) and isinstance(sizes, dict) and _is_plain(manifest.get("name"))):
        return False
    texts = set(files) - {MODEL, PACKED_TOKENIZER}
    return len(files) == len(texts) + 2 and texts <= set(TEXTS) and set(unpacked) == set(sizes) == {MODEL, TOKENIZER, *texts}


def _is_plain(name: object) -> bool:
    """Whether ``name`` can be part of a folder's name on every system."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None


def _unpack_into(packed: Path, manifest: dict[str, Any], folder: Path) -> None:
    files = {file: _read_checked(packed / file, digest) for file, digest in manifest["files"].items()}
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        _write_unpacked(files, temporary)
        _check_unpacked(temporary, manifest, True, REINSTALL)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first, and its files are the same
                raise
    except OSError as error:
        needed = sum(manifest["unpacked_bytes"].values())
        raise InputError(
            f"{folder.parent}: the model cannot be unpacked here ({error.strerror or error}); free {needed:,} bytes, or set CSRERANK_CACHE to another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_checked(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {REINSTALL}") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise InputError(f"{path}: SHA-256 {found} where the manifest has {digest}; {REINSTALL}")
    return content


def _check_unpacked(folder: Path, manifest: dict[str, Any], hashes: bool, mend: str) -> None:
    """Raise ``InputError`` unless each unpacked file is in ``folder`` with its size and, where ``hashes`` is set, its SHA-256."""
    for file, size in manifest["unpacked_bytes"].items():
        path = folder / file
        if not path.is_file():
            raise InputError(f"{path}: no such file; {mend}")
        if (found := path.stat().st_size) != size:
            raise InputError(f"{path}: {found:,} bytes where the manifest has {size:,}; {mend}")
        if hashes and (digest := _sha256(path)) != manifest["unpacked"][file]:
            raise InputError(f"{path}: SHA-256 {digest} where the manifest has {manifest['unpacked'][file]}; {mend}")


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_unpacked(files: dict[str, bytes], folder: Path) -> None:
    """Write the Hugging Face directory of the packed ``files`` into ``folder``."""
    for file, content in files.items():
        if file == MODEL:
            _write_model(content, folder / MODEL)
        elif file == PACKED_TOKENIZER:
            (folder / TOKENIZER).write_bytes(lzma.decompress(content))
        else:
            (folder / file).write_bytes(content)


def _write_model(packed: bytes, path: Path) -> None:
    """Write the float32 safetensors file of a packed one.

    The header is written here, in the form ``safetensors.numpy`` 0.8 gives it, because the manifest names the file's hash: a release of
    safetensors that lays its header out otherwise must not make every installed csrerank refuse its own model.
    """
    from safetensors.numpy import load

    stored = load(packed)
    encodings = json.loads(json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])["__metadata__"]["csrerank"])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in sorted(encodings):
        shape = list(stored[name].shape)
        if encodings[name] == "q4":
            shape[1] *= 2
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(encodings):
            weights = decode(encodings[name], stored[name], stored.get(name + SCALE))
            out.write(np.ascontiguousarray(weights, "<f4").data)


def default_pack() -> Path:
    """The packed default checkpoint inside the package."""
    return Path(__file__).parent / "default"
