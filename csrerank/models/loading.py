"""A cross-encoder's model and tokenizer, loaded from a checkpoint: by transformers, or, where it is of the kind that ``light`` knows, without."""

from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.models import light as without_transformers
from csrerank.models.checkpoint import find_model, quiet_transformers
from csrerank.models.engine import Engine


def loaded(name: str | Path, device: str | None, light: bool) -> tuple[Any, Any, Path | None]:
    """The model in float32, its tokenizer, and its directory (None for a name on the hub); ``light`` where that can be, and the engine computes on ``device``.

    Raises ``InputError`` for an unknown name, a directory without a checkpoint, or a model that does not give one or two logits.
    """
    import torch

    directory = find_model(name)
    path = Path(directory)
    light = light and path.is_dir() and torch.device(device or "cpu").type in ("cpu", "cuda")
    try:
        model, tokenizer = (without_transformers.loaded(path) if light else None) or _by_transformers(name, directory)
        _realign(model)
    except InputError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and more for a broken directory
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"{name}: cannot be loaded as a checkpoint ({first}); give a directory saved by transformers with safetensors, or a hub name"
        ) from error
    return model, tokenizer, path if path.is_dir() else None


def _by_transformers(name: str | Path, directory: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    quiet_transformers()
    config = AutoConfig.from_pretrained(directory)
    heads = config.architectures or []
    if not any(head.endswith("ForSequenceClassification") for head in heads):
        raise InputError(
            f"{name}: a {'/'.join(heads) or 'model without a head'}, not a sequence-classification checkpoint; train one from it, or give a cross-encoder"
        )
    if config.num_labels not in (1, 2):
        raise InputError(f"{name}: {config.num_labels} logits where a re-ranker has one or two; give another checkpoint")
    # float32 whatever it was saved in, so that --precision says what is computed
    model = AutoModelForSequenceClassification.from_pretrained(directory, use_safetensors=True, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(directory)


def _realign(model: Any) -> None:
    """Move the weights of linear layers that the model's own code multiplies to memory of torch's: mapped from a file they lie at any address, by which the last bits of a
    product go. The engine takes copies of the others."""
    import torch

    served = Engine.serves(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not (served and ".encoder." in f".{name}"):
            for weights in module.parameters(recurse=False):
                weights.data = weights.data.clone()
