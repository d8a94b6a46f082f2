"""The encoder of BERT's kin run for scoring: no padding, queries, keys and values in one product, and of the last layer what the logit needs.

Inputs lie one behind the other, tokens of all of them in one matrix, so that nothing is computed for padding. Attention takes inputs of one length together, which
needs no mask. All that reads the last layer's output is its first token: for the others only keys and values are computed there. None of this changes what is computed
for an input, but for the order in which sums are rounded.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from csrerank.models.batching import Encoded

FAMILIES = ("bert", "roberta", "xlm-roberta")


class _Linear(NamedTuple):
    weight: Any
    bias: Any

    def __call__(self, states: Any) -> Any:
        import torch

        return torch.nn.functional.linear(states.to(self.weight.dtype), self.weight, self.bias)


class _Layer(NamedTuple):
    """A layer's weights: queries, keys and values as one matrix of [3 hidden, hidden]."""

    joint: _Linear
    attention: _Linear
    attention_norm: Any
    inner: _Linear
    activation: Any
    outer: _Linear
    norm: Any


def _attended(query: Any, key: Any, value: Any) -> Any:
    """Attention over whole inputs, each [inputs, heads, tokens, size]."""
    import torch

    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def _products(layer: Any) -> list[Any]:
    """The modules of a layer that multiply: query, key, value, attention's output, and the two of the feed-forward part."""
    own = layer.attention.self
    return [own.query, own.key, own.value, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense]


def _state(model: Any) -> list[tuple[int, int]]:
    """Tells weights that were replaced or written to."""
    return [(weights.data_ptr(), 0 if weights.is_inference() else weights._version) for weights in model.parameters()]


class Engine:
    """Logits of a ``...ForSequenceClassification`` model of one of the ``FAMILIES``.

    :param bf16: products in bf16; sums, norms and the head stay in fp32, as under autocast.
    :param types: whether the passage's tokens are of type 1, as the tokenizer has it; else all are of type 0.
    """

    def __init__(self, model: Any, bf16: bool, types: bool) -> None:
        import torch

        base = model.base_model
        self._model, self._embeddings, self._heads = model, base.embeddings, model.config.num_attention_heads
        self._types = types
        kind = torch.bfloat16 if bf16 else torch.float32

        def linear(*modules: Any) -> _Linear:
            with torch.no_grad():
                return _Linear(torch.cat([module.weight for module in modules]).to(kind).contiguous(), torch.cat([module.bias for module in modules]).to(kind))

        self._weights = _state(model)
        self._layers = []
        for layer in base.encoder.layer:
            *joint, attention, inner, outer = _products(layer)
            self._layers.append(
                _Layer(
                    linear(*joint),
                    linear(attention),
                    layer.attention.output.LayerNorm,
                    linear(inner),
                    layer.intermediate.intermediate_act_fn,
                    linear(outer),
                    layer.output.LayerNorm,
                )
            )

    @staticmethod
    def serves(model: Any) -> bool:
        """Whether a model is one of those that the engine computes: in float32, with layers as they were published (no adapters inside)."""
        import torch

        config = model.config
        if config.model_type not in FAMILIES or any(weights.dtype != torch.float32 for weights in model.parameters()):
            return False
        plain = all(type(part) is torch.nn.Linear for layer in model.base_model.encoder.layer for part in _products(layer))
        return (
            plain
            and not config.is_decoder
            and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
            and not getattr(config, "add_cross_attention", False)
        )

    def is_current(self) -> bool:
        """Whether the model's weights are still those that the engine was made from."""
        return self._weights == _state(self._model)

    def logits(self, inputs: Sequence[Encoded]) -> Any:
        """Logits of inputs in an order in which those of one length stand together: float32 [inputs, labels]."""
        import torch

        lengths = [len(row.ids) for row in inputs]
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        runs, at = [], 0  # (first token, inputs, length)
        for length, same in groupby(lengths):
            count = len(list(same))
            runs.append((starts[at], count, length))
            at += count
        states = self._embedded(inputs, lengths)
        for layer in self._layers[:-1]:
            joint = layer.joint(states)
            mixed = torch.empty(len(states), states.shape[1], dtype=joint.dtype)
            for start, count, length in runs:
                part = joint[start : start + count * length].view(count, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
                mixed[start : start + count * length] = _attended(part[0], part[1], part[2]).transpose(1, 2).reshape(count * length, -1)
            states = self._fed(layer, mixed, states)
        return self._head(self._last(states, runs, torch.tensor(starts[:-1])))

    def _last(self, states: Any, runs: Sequence[tuple[int, int, int]], firsts: Any) -> Any:
        """The last layer's output for the first token of each input: float32 [inputs, hidden]."""
        import torch

        layer, hidden = self._layers[-1], states.shape[1]
        own = states[firsts]
        query = _Linear(layer.joint.weight[:hidden], layer.joint.bias[:hidden])(own)
        others = _Linear(layer.joint.weight[hidden:], layer.joint.bias[hidden:])(states)
        mixed, at = torch.empty(len(own), hidden, dtype=query.dtype), 0
        for start, count, length in runs:
            part = others[start : start + count * length].view(count, length, 2, self._heads, -1).permute(2, 0, 3, 1, 4)
            asked = query[at : at + count].view(count, 1, self._heads, -1).transpose(1, 2)
            mixed[at : at + count] = _attended(asked, part[0], part[1]).transpose(1, 2).reshape(count, -1)
            at += count
        return self._fed(layer, mixed, own)

    @staticmethod
    def _fed(layer: _Layer, mixed: Any, states: Any) -> Any:
        states = layer.attention_norm(layer.attention(mixed) + states)
        return layer.norm(layer.outer(layer.activation(layer.inner(states))) + states)

    def _embedded(self, inputs: Sequence[Encoded], lengths: Sequence[int]) -> Any:
        import torch

        tables = self._embeddings
        ids = torch.tensor([token for row in inputs for token in row.ids])
        positions = self._positions(ids, lengths)
        if self._types:
            types = torch.cat([torch.arange(length) >= row.split for row, length in zip(inputs, lengths, strict=True)]).long()
        else:
            types = torch.zeros_like(ids)
        return tables.LayerNorm(tables.word_embeddings(ids) + tables.token_type_embeddings(types) + tables.position_embeddings(positions))

    def _positions(self, ids: Any, lengths: Sequence[int]) -> Any:
        """Each token's position in its input: BERT counts all from 0, RoBERTa's kin count from the padding id + 1 and leave out padding ids, which a text may hold."""
        import torch

        if self._model.config.model_type == "bert":
            return torch.cat([torch.arange(length) for length in lengths])
        padding = self._embeddings.padding_idx
        counted = (ids != padding).long()
        running = counted.cumsum(0)
        ends = torch.tensor(lengths).cumsum(0)
        before = torch.cat([running.new_zeros(1), running[ends[:-1] - 1]])
        return (running - before.repeat_interleave(torch.tensor(lengths))) * counted + padding

    def _head(self, firsts: Any) -> Any:
        states = firsts.float().unsqueeze(1)
        if self._model.config.model_type == "bert":
            return self._model.classifier(self._model.base_model.pooler(states))
        return self._model.classifier(states)
