"""Backbones: a cross-encoder with one logit and a fresh head from any encoder checkpoint of four families, pooling by the first token or by the mean.

Mean pooling needs no class of its own. One more encoder layer is appended whose query and key are 0, so that attention is uniform over the tokens that the
mask leaves; whose value is c I and whose attention output is I; and whose feed-forward output is 0. Its first token's state is LN(h_0 + c mean(h)), and the
stock head, which reads the first token, reads the mean. From 0, query and key get no gradient: the pooling stays the mean; all else in the layer is trained.
"""

import copy
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from csrerank.errors import InputError
from csrerank.models.checkpoint import find_model, pickled_weights, position_limit, quiet_transformers

FAMILIES = ("bert", "deberta-v2", "roberta", "xlm-roberta")
POOLINGS = ("first", "mean")
MEAN_WEIGHT = 8.0  # c: enough for the mean to outweigh h_0, which is one of the states it averages
Pooling = Literal["first", "mean"]
SAFE_TORCH = (2, 10)  # before it, a crafted pickle corrupts memory even where torch.load takes weights only (CVE-2026-24747)


def load_backbone(
    name_or_directory: str | Path,
    pooling: Pooling = "first",
    layers: Sequence[int] | None = None,
    seed: int = 1,
    dropout: float = 0.0,
) -> tuple[Any, Any]:
    """A sequence-classification model with one logit, float32, and its tokenizer, from an encoder checkpoint (directory, hub name, or ``default``).

    The head is fresh, drawn from a generator seeded by ``seed``, whatever the checkpoint had; torch's global random state stays as it was. A BERT pooler is
    kept for the first token, for which it was trained, and fresh for the mean. ``config.csrerank`` says what was done.

    Weights are read from safetensors, and where there are none from a pickle (``pytorch_model.bin``), by torch's unpickler for tensors alone, which runs no code.

    :param layers: the encoder layers to keep, in rising order; all by default. A mean layer that a checkpoint of ours ends with counts as head, not as encoder.
    :param dropout: of hidden states and in the head; attention has none, because it rules out the fused attention kernel.
    :raises InputError: for a checkpoint that cannot be found or loaded, one of another family, a decoder, a pickle of more than tensors (or any, where
        torch is older than ``SAFE_TORCH``), missing or misshapen weights, a tokenizer that lacks the padding token or does not fit, layers that the encoder
        lacks, an unknown pooling.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    if pooling not in POOLINGS:
        raise InputError(f"unknown pooling {pooling!r}; known are {' '.join(POOLINGS)}")
    directory = find_model(name_or_directory)
    quiet_transformers()
    with loading(name_or_directory):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)  # left open, it asks on a terminal
        _check_family(name_or_directory, config)
        _check_pickle(name_or_directory, Path(directory))
        # Heads have a rate of their own in some configurations.
        rates = {name: dropout for name in ("hidden_dropout_prob", "classifier_dropout", "cls_dropout", "pooler_dropout") if hasattr(config, name)}
        # What the checkpoint lacks is drawn from the global generator, before _fresh draws it again from ours.
        with torch.random.fork_rng(devices=[]), _hub_left_alone():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                directory, num_labels=1, problem_type=None, attention_probs_dropout_prob=0.0, dtype=torch.float32, **rates,
                use_safetensors=None if _reads_pickles() else True, weights_only=True, ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(directory)
    pooler_trained = _check_weights(name_or_directory, model, info)
    _fit_tokenizer(name_or_directory, model, tokenizer)
    kept = _keep_layers(name_or_directory, model, layers)
    generator = torch.Generator().manual_seed(seed)
    _fresh_head(model, keep_pooler=pooler_trained and pooling == "first", generator=generator)
    if pooling == "mean":
        _append_mean_layer(model, generator)
    model.config.num_hidden_layers = len(model.base_model.encoder.layer)
    model.config.csrerank = {"pooling": pooling, "layers": kept}
    return model, tokenizer


def layers_of(name_or_directory: str | Path) -> int:
    """How many layers an encoder has, without a mean layer of ours. Raises ``InputError`` for a checkpoint that cannot be found or read."""
    from transformers import AutoConfig

    with loading(name_or_directory):
        return _layers(AutoConfig.from_pretrained(find_model(name_or_directory), trust_remote_code=False))


def _layers(config: Any) -> int:
    return int(config.num_hidden_layers) - ((getattr(config, "csrerank", None) or {}).get("pooling") == "mean")


def _append_mean_layer(model: Any, generator: Any) -> None:
    """Append the layer that the module's docstring describes.

    DeBERTa's relative terms are products with the same query and key (or with projections of the positions, zeroed too), so they vanish and the mean is exact.
    """
    import torch

    stack = model.base_model.encoder.layer
    layer = copy.deepcopy(stack[-1])
    attention, hidden = getattr(layer.attention, "self"), model.config.hidden_size  # noqa: B009 - `self` is the attribute's name
    with torch.no_grad():
        for name, part in attention.named_children():
            if isinstance(part, torch.nn.Linear):
                part.weight.zero_()
                part.bias.zero_()
                if name.startswith("value"):
                    part.weight.copy_(MEAN_WEIGHT * torch.eye(hidden))
        layer.attention.output.dense.weight.copy_(torch.eye(hidden))
        layer.attention.output.dense.bias.zero_()
        # Random, because a gradient reaches the feed-forward part only if one of its two matrices is not 0.
        _fresh(layer.intermediate.dense, model.config.initializer_range, generator)
        layer.output.dense.weight.zero_()
        layer.output.dense.bias.zero_()
        for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1)
            norm.bias.zero_()
    if hasattr(attention, "layer_idx"):
        attention.layer_idx = len(stack)
    stack.append(layer)


def _fresh_head(model: Any, keep_pooler: bool, generator: Any) -> None:
    """Draw the weights outside the encoder anew, a pooler inside it too if it is not kept."""
    import torch

    heads = [part for name, part in model.named_children() if name != model.base_model_prefix]
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is not None and not keep_pooler:
        heads.append(pooler)
    for head in heads:
        for part in head.modules():
            if isinstance(part, torch.nn.Linear):
                _fresh(part, model.config.initializer_range, generator)


def _fresh(linear: Any, spread: float, generator: Any) -> None:
    """Weights from N(0, spread), bias 0: transformers' own initialisation of these families."""
    import torch

    with torch.no_grad():
        linear.weight.normal_(0.0, spread, generator=generator)
        linear.bias.zero_()


def _keep_layers(name: str | Path, model: Any, layers: Sequence[int] | None) -> list[int]:
    import torch

    encoder = model.base_model.encoder
    count = _layers(model.config)
    kept = list(range(count)) if layers is None else list(layers)
    if not kept or kept != sorted(set(kept) & set(range(count))):
        raise InputError(f"{name}: layers {','.join(map(str, kept)) or 'none'} of an encoder with layers 0 to {count - 1}; give some of these in rising order")
    encoder.layer = torch.nn.ModuleList(encoder.layer[at] for at in kept)
    for at, layer in enumerate(encoder.layer):
        attention = getattr(layer.attention, "self")  # noqa: B009
        if hasattr(attention, "layer_idx"):
            attention.layer_idx = at
    return kept


def _check_family(name: str | Path, config: Any) -> None:
    made = "/".join(config.architectures or []) or "no head named"
    if config.model_type not in FAMILIES:
        raise InputError(f"{name}: a {config.model_type} checkpoint ({made}), where an encoder of {', '.join(FAMILIES)} is needed; give one of these")
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise InputError(f"{name}: a {config.model_type} set up as a decoder ({made}), where an encoder is needed; give one, with is_decoder false")


def _check_pickle(name: str | Path, directory: Path) -> None:
    if not _reads_pickles() and (pickled := pickled_weights(directory)):
        needed = ".".join(map(str, SAFE_TORCH))
        raise InputError(
            f"{name}: weights in {pickled[0].name} only, a pickle, which torch reads safely from {needed} on; update torch, or give model.safetensors"
        )


def _reads_pickles() -> bool:
    import torch

    return bool(torch.__version__ >= SAFE_TORCH)


@contextmanager
def _hub_left_alone() -> Iterator[None]:
    """Keep transformers from having the hub convert a pickle that it reads: it would open a pull request in somebody's repository, unasked."""
    name = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_weights(name: str | Path, model: Any, info: dict[str, Any]) -> bool:
    """Refuse an encoder with weights that the checkpoint lacks or has in another shape; return whether it has the pooler, which it may lack."""
    base = model.base_model_prefix + "."
    absent = sorted(key for key in {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])} if key.startswith(base))
    lost = [key for key in absent if not key.startswith(base + "pooler.")]
    if lost:
        raise InputError(
            f"{name}: {len(lost)} of the encoder's weights are missing or have another shape than config.json says ({lost[0]}); fetch the checkpoint again"
        )
    if deeper := sorted(key for key in info["unexpected_keys"] if "encoder.layer." in key):
        raise InputError(f"{name}: holds {deeper[0]}, of a layer that config.json does not count; mend num_hidden_layers, and choose with layers")
    return len(lost) == len(absent)


def _fit_tokenizer(name: str | Path, model: Any, tokenizer: Any) -> None:
    """Hold the tokenizer to the model, and have it state the model's limit and the inputs that the model takes."""
    if tokenizer.pad_token_id is None:
        raise InputError(f"{name}: its tokenizer has no padding token; name one as pad_token in tokenizer_config.json")
    pieces = tokenizer.get_vocab()
    if len(pieces) <= len(tokenizer.all_special_ids):  # what transformers makes where the files are missing
        raise InputError(f"{name}: its tokenizer has special tokens only; put tokenizer.json (or its other files) beside config.json")
    highest = max(pieces.values())
    if highest >= model.config.vocab_size:
        raise InputError(
            f"{name}: its tokenizer gives ids up to {highest}, its embeddings have {model.config.vocab_size} rows; give the tokenizer of this model"
        )
    tokenizer.model_max_length = position_limit(model, tokenizer)
    if model.config.type_vocab_size == 1:  # RoBERTa's kin: a type of 1 would be looked up past the table's end
        tokenizer.model_input_names = [column for column in tokenizer.model_input_names if column != "token_type_ids"]


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn whatever transformers raises for a checkpoint that it cannot read into one ``InputError``."""
    try:
        with warnings.catch_warnings():
            # A pickle is read or refused below, in one line; torch's warning beside it tells a user nothing more.
            warnings.filterwarnings("ignore", ".*(pickle protocol|TorchScript archive)", UserWarning)
            yield
    except InputError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and more for a broken directory
        # torch's own text tells how to run the code all the same.
        if isinstance(error, pickle.UnpicklingError) or "``weights_only=True``" in str(error):
            asked = re.search(r"GLOBAL (\S+)", str(error))
            raise InputError(
                f"{name}: its weights are no pickle of tensors alone{f' (it asks for {asked[1]})' if asked else ''}; any other may run code and is not read; "
                "fetch them again if they should be, or give them as model.safetensors"
            ) from error
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{name}: cannot be loaded as an encoder ({first}); give a directory saved by transformers with safetensors, or a hub name") from error
