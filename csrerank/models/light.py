"""The default checkpoint's kind of model without transformers, whose import takes longer than loading the model and scoring a short run.

Only what ``csrerank.models.engine`` computes on is made: modules with the names and weights of ``XLMRobertaForSequenceClassification``, and the tokenizer of
``tokenizer.json`` with the few methods that ``PairEncoder`` calls. Scores are the same bits as with transformers' own classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Beside a model these tell transformers of more weights or tokens.
_BESIDE = ("adapter_config.json", "special_tokens_map.json", "added_tokens.json")
_SPECIAL = ("bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token", "mask_token")
# What the modules below are written for; a configuration with other values is transformers'.
_EXPECTED = {
    "architectures": ["XLMRobertaForSequenceClassification"], "model_type": "xlm-roberta", "hidden_act": "gelu", "is_decoder": False, "add_cross_attention": False, "dtype": "float32",
}  # fmt: skip
_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Of tokenizer_config.json; another setting may be one that transformers acts on.
_SETTINGS = {*_SPECIAL, "backend", "is_local", "local_files_only", "model_input_names", "model_max_length", "tokenizer_class", "clean_up_tokenization_spaces"}
# Of config.json: what is told of the model's making and training, and changes no score; another name may be one that transformers acts on.
_SILENT = {
    "attention_probs_dropout_prob", "bos_token_id", "classifier_dropout", "csrerank", "eos_token_id", "hidden_dropout_prob", "initializer_range", "label2id",
    "sentence_transformers", "tie_word_embeddings", "transformers_version", "use_cache", "id2label", "_name_or_path",
}  # fmt: skip
_CONFIG = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "type_vocab_size",
    "vocab_size",
    "layer_norm_eps",
    "pad_token_id",
)


class _Other(Exception):
    """Not of this kind after all."""


class LightTokenizer:
    """The tokenizer of a ``tokenizer.json``, with the special tokens of a ``tokenizer_config.json``."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_file(str(path))
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        added = {token.content for token in self.backend_tokenizer.get_added_tokens_decoder().values()}
        if not all(settings[name] in added for name in _SPECIAL if name in settings):
            raise _Other  # transformers would add them
        self.model_max_length: int = settings["model_max_length"]
        self.model_input_names: list[str] = settings["model_input_names"]
        ids = {name: self.backend_tokenizer.token_to_id(settings[name]) for name in _SPECIAL if name in settings}
        self.unk_token_id, self.pad_token_id = ids.get("unk_token"), ids["pad_token"]
        self.all_special_ids = list(dict.fromkeys(ids.values()))

    def __call__(self, text: str | Sequence[str], pair: str | None = None, *, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        """``input_ids``, and ``token_type_ids`` where the model takes them, of a text, a pair of texts, or a list of texts; nothing is cut or padded."""
        found: Any
        types: Any
        if isinstance(text, str):
            encoded = self.backend_tokenizer.encode(text, pair, add_special_tokens=add_special_tokens)
            found, types = encoded.ids, encoded.type_ids
        else:
            many = self.backend_tokenizer.encode_batch(list(text), add_special_tokens=add_special_tokens)
            found, types = [one.ids for one in many], [one.type_ids for one in many]
        return {"input_ids": found} | ({"token_type_ids": types} if "token_type_ids" in self.model_input_names else {})


def loaded(directory: Path) -> tuple[Any, LightTokenizer] | None:
    """The model, in float32 and for scoring alone, and its tokenizer; ``None`` for a directory that is not of this kind, which is left to transformers.

    Raises what json, safetensors and tokenizers raise for damaged files.
    """
    config_file, weights, tokenizer_file, settings_file = (
        directory / name for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    )
    if not all(path.is_file() for path in (config_file, weights, tokenizer_file, settings_file)):
        return None
    config, settings = (json.loads(path.read_text(encoding="utf-8")) for path in (config_file, settings_file))
    try:
        _check(directory, config, settings)
        return _model(config, weights), LightTokenizer(tokenizer_file, settings)
    except _Other:
        return None


def _check(directory: Path, config: dict[str, Any], settings: dict[str, Any]) -> None:
    sizes = [config.get(name) for name in _CONFIG if name not in ("model_type", "layer_norm_eps")]
    known = (
        not any((directory / name).exists() for name in _BESIDE)
        and all(config.get(name) == value for name, value in _EXPECTED.items())
        and config.keys() <= {*_EXPECTED, *_CONFIG, *_SILENT}
        and all(type(size) is int for size in sizes)
        and type(config.get("layer_norm_eps")) is float
        and config["hidden_size"] % config["num_attention_heads"] == 0
        and 0 <= config["pad_token_id"] < min(config["vocab_size"], config["max_position_embeddings"])
        and (config.get("id2label") or {}).keys() in ({"0"}, {"0", "1"})
        and settings.get("tokenizer_class") in _CLASSES
        and {"model_max_length", "model_input_names", "pad_token"} <= settings.keys() <= _SETTINGS
        and type(settings["model_max_length"]) is int
        and all(isinstance(settings.get(name, ""), str) for name in _SPECIAL)
    )
    if not known:
        raise _Other


def _model(config: dict[str, Any], weights: Path) -> Any:
    import torch
    from safetensors.torch import load_file
    from torch import nn

    hidden, inner, labels = config["hidden_size"], config["intermediate_size"], len(config["id2label"])
    state = {name: tensor.float() for name, tensor in load_file(weights).items() if not name.endswith("position_ids")}

    def taken(name: str, *shape: int) -> nn.Parameter:
        if name not in state or tuple(state[name].shape) != shape:
            raise _Other
        return nn.Parameter(state.pop(name), requires_grad=False)

    def made(kind: Any, name: str, shapes: dict[str, tuple[int, ...]], **settings: Any) -> Any:
        """A module with these weights, without the random ones that its constructor draws."""
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        module.__dict__.update(settings)
        for part, shape in shapes.items():
            module.register_parameter(part, taken(f"{name}.{part}", *shape))
        return module

    def linear(name: str, into: int, out: int) -> Any:
        return made(nn.Linear, name, {"weight": (out, into), "bias": (out,)}, in_features=into, out_features=out)

    def norm(name: str) -> Any:
        return made(
            nn.LayerNorm, name, {"weight": (hidden,), "bias": (hidden,)}, normalized_shape=(hidden,), eps=config["layer_norm_eps"], elementwise_affine=True
        )

    def embedding(name: str, rows: int, padding: int | None = None) -> Any:
        settings = {
            "num_embeddings": rows,
            "embedding_dim": hidden,
            "padding_idx": padding,
            "max_norm": None,
            "norm_type": 2.0,
            "scale_grad_by_freq": False,
            "sparse": False,
        }
        return made(nn.Embedding, name, {"weight": (rows, hidden)}, **settings)

    class Part(nn.Module):
        """Modules by name."""

        def __init__(self, /, **modules: nn.Module) -> None:
            super().__init__()
            for name, module in modules.items():
                self.add_module(name, module)

    class Head(Part):
        """As ``XLMRobertaClassificationHead``."""

        def forward(self, states: Any) -> Any:
            return self.out_proj(torch.tanh(self.dense(states[:, 0, :])))

    def output(name: str, size: int) -> Part:
        return Part(dense=linear(f"{name}.dense", size, hidden), LayerNorm=norm(f"{name}.LayerNorm"))

    def layer(name: str) -> Part:
        own = Part(**{part: linear(f"{name}.attention.self.{part}", hidden, hidden) for part in ("query", "key", "value")})
        intermediate = Part(dense=linear(f"{name}.intermediate.dense", hidden, inner))
        intermediate.intermediate_act_fn = nn.functional.gelu
        attention = Part(self=own, output=output(f"{name}.attention.output", hidden))
        return Part(attention=attention, intermediate=intermediate, output=output(f"{name}.output", inner))

    table, padding = "roberta.embeddings", config["pad_token_id"]
    embeddings = Part(
        word_embeddings=embedding(f"{table}.word_embeddings", config["vocab_size"], padding),
        position_embeddings=embedding(f"{table}.position_embeddings", config["max_position_embeddings"], padding),
        token_type_embeddings=embedding(f"{table}.token_type_embeddings", config["type_vocab_size"]),
        LayerNorm=norm(f"{table}.LayerNorm"),
    )
    embeddings.padding_idx = padding
    layers = nn.ModuleList(layer(f"roberta.encoder.layer.{at}") for at in range(config["num_hidden_layers"]))
    head = Head(dense=linear("classifier.dense", hidden, hidden), out_proj=linear("classifier.out_proj", hidden, labels))
    model: Any = Part(roberta=Part(embeddings=embeddings, encoder=Part(layer=layers)), classifier=head)
    if state:
        raise _Other
    model.__dict__.update(base_model=model.roberta, base_model_prefix="roberta")  # a name for it, and no second module
    model.config = SimpleNamespace(**{name: config[name] for name in _CONFIG}, is_decoder=False, num_labels=labels)
    return model.eval()
