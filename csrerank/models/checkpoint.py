"""Checkpoints by name: where a model's directory is, its hash, and how many tokens it takes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from csrerank.errors import InputError

DEFAULT_MODEL = "default"


def find_model(name: str | Path) -> str:
    """The directory of ``name``, unpacked first for the default model; a hub name is given back as it is. Raises ``InputError`` where neither can be meant."""
    if str(name) == DEFAULT_MODEL:
        from csrerank.cache import cache_folder
        from csrerank.models.pack import default_pack, unpack

        return str(unpack(default_pack(), cache_folder()))
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{name}: no config.json in this directory; give one saved by transformers")
        return str(path)
    if path.exists():
        raise InputError(f"{name}: a file where a model directory is needed; give the directory")
    if str(name).count("/") != 1 or str(name).startswith((".", "/")):
        raise InputError(f"{name}: no such model; give 'default', a directory, or a hub name like owner/name")
    return str(name)


def pickled_weights(directory: Path) -> list[Path]:
    """The pickles in a directory that transformers would take weights from: ``pytorch_model.bin``, or those that its index names. None where there are
    safetensors, which come first, or no directory.
    """
    if any((directory / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        return []
    whole, index = directory / "pytorch_model.bin", directory / "pytorch_model.bin.index.json"
    if whole.is_file():
        return [whole]
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(directory / part for part in parts if (directory / part).is_file())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no index, or a damaged one, of which transformers tells
        return []


def directory_hash(directory: Path) -> str:
    """SHA-256 over the weights, configuration and tokenizer in a Hugging Face directory, with their names; over pickles where the weights are in these."""
    digest = hashlib.sha256()
    # training.json tells when a training was, too.
    named = [path for path in directory.iterdir() if path.suffix in (".safetensors", ".json", ".model", ".txt") and path.name != "training.json"]
    for path in sorted({*named, *pickled_weights(directory)}):
        with path.open("rb") as file:
            digest.update(os.path.relpath(path, directory).encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def tokenizer_state(tokenizer: Any) -> bytes:
    """What tells a tokenizer in memory from others: that of the tokenizers library whole; of one written in Python its class, vocabulary, options and files."""
    if (fast := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        return str(fast.to_str()).encode()
    files = [Path(path) for name in tokenizer.vocab_files_names if isinstance(path := getattr(tokenizer, name, None), str)]
    found = [
        type(tokenizer).__name__,
        sorted(tokenizer.get_vocab().items()),
        sorted((name, repr(value)) for name, value in tokenizer.init_kwargs.items() if not name.endswith("_file") and name != "name_or_path"),
        *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()),
    ]
    return json.dumps(found).encode()


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Save a tokenizer so that transformers 4 loads it too: version 5 writes the name TokenizersBackend for the class that both know as PreTrainedTokenizerFast."""
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def quiet_transformers() -> None:
    """Keep transformers' loading reports and progress bars off standard error, which is for csrerank's own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def position_limit(model: Any, tokenizer: Any) -> int:
    """Tokens the model takes: RoBERTa's kin count positions from the padding id + 1, and some tokenizers state no limit, or too high a one."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    family = model.config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
    offset = model.base_model.embeddings.padding_idx + 1 if family else 0
    return min(positions - offset, tokenizer.model_max_length)
