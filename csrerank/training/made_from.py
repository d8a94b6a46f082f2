"""What makes a training's weights: all of it has to be as it was for a killed job to go on, and ``training.json`` tells of it."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csrerank.collections.texts import file_hash
from csrerank.metadata import versions
from csrerank.training.collection import Collection, encoder_directory

if TYPE_CHECKING:
    from csrerank.training.job import Inputs, Settings


def asked_for(dataset_id: str, base: str | Path, collection: Collection, settings: "Settings", inputs: "Inputs") -> dict[str, Any]:
    """What the caller decides, wherever it is computed (of validation its id and policy, not its texts)."""
    from csrerank.models.checkpoint import directory_hash

    return {
        "dataset": dataset_id,
        "base": base_hash(base),
        "policy": collection.policy.fingerprint,
        "lexicons": {"/".join(name): collection.lexicons.find(*name).fingerprint for name in collection.policy.lexicons()},
        "SHA-256": collection.fingerprints,
        "settings": json.loads(json.dumps(settings._asdict())),
        "runs": file_hashes({"bm25": inputs.bm25_run, "dense": inputs.dense_run, "translations": inputs.translations}),
        "encoder": directory_hash(inputs.encoder) if inputs.encoder else None,
        "validation": _validation(inputs.validation) if inputs.validation else None,
        "versions": {name: version for name, version in versions().items() if name in ("csrerank", "torch", "transformers", "tokenizers")},
    }


def found_here(settings: "Settings", inputs: "Inputs", arguments: Any, cache: Path) -> dict[str, Any]:
    """What else a resumed job must find as it was, for the same weights."""
    import torch

    from csrerank.models.checkpoint import directory_hash

    encoding = settings.distil or (dict(settings.negatives).get("dense") and not inputs.dense_run)
    return {
        "bi-encoder": directory_hash(encoder_directory(inputs.encoder, cache)) if encoding else None,
        "precision": "bf16" if arguments.bf16 else "fp32",
        "processes": arguments.world_size,
        "device": arguments.device.type,
        "threads": torch.get_num_threads() if arguments.device.type == "cpu" else None,
    }


def _validation(dataset_id: str) -> dict[str, Any]:
    """What decides which step is kept."""
    from csrerank.training.validation import switched_policy

    return {"dataset": dataset_id, "policy": switched_policy().fingerprint}


def base_hash(base: str | Path) -> str:
    """SHA-256 of an encoder: over its directory's files, or for a name on the hub, behind which another revision may stand tomorrow, over what it loads."""
    from csrerank.models.checkpoint import directory_hash

    directory = _directory(base)
    return directory_hash(directory) if directory else _on_hub(str(base))[0]


def base_revision(base: str | Path) -> str | None:
    """The commit of an encoder on the hub; None for a directory."""
    return None if _directory(base) else _on_hub(str(base))[1]


def _directory(base: str | Path) -> Path | None:
    from csrerank.models.checkpoint import find_model

    directory = Path(find_model(base))
    return directory if directory.is_dir() else None


@cache
def _on_hub(name: str) -> tuple[str, str | None]:
    """SHA-256 over an encoder's configuration file, tokenizer and weights, and its commit. Kept in this process: a matrix asks for each of its models.

    Not over the files in the hub's cache, where other libraries put some of the same name that are not read here.
    """
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    from csrerank.models.backbones import load_backbone
    from csrerank.models.checkpoint import tokenizer_state

    model, tokenizer = load_backbone(name)
    config = Path(cached_file(name, "config.json"))
    digest = hashlib.sha256(config.read_bytes() + b"\0" + tokenizer_state(tokenizer))
    for weights, tensor in sorted(model.base_model.state_dict().items()):
        digest.update(weights.encode() + b"\0" + tensor.cpu().numpy().tobytes())
    return digest.hexdigest(), extract_commit_hash(str(config), None)


def file_hashes(paths: Mapping[str, Path | None]) -> dict[str, str]:
    """Name -> SHA-256 of its file, for the names that have one."""
    return {name: file_hash(path) for name, path in paths.items() if path}
