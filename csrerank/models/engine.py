"""The encoder of BERT's kin run for scoring: no padding, queries, keys and values in one product, and of the last layer what the logit needs.

Inputs lie one behind the other, tokens of all of them in one matrix, so that nothing is computed for padding (``layout``). All that reads the last layer's output is its
first token: for the others only keys and values are computed there, and where that layer averages (csrerank's mean pooling), not even these. None of this changes what is
computed for an input, but for the order in which sums are rounded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from csrerank.models.batching import Encoded
from csrerank.models.layout import Padded, Runs, laid_out
from csrerank.models.memory import keep_memory
from csrerank.models.precision import cpu_has_bf16

FAMILIES = ("bert", "roberta", "xlm-roberta")
Product = Callable[[Any], Any]  # or several, with what stands between them


class Linear:
    """A product in the precision of its weights: states [tokens, in] to [tokens, out].

    On a CPU with AVX-512 by oneDNN's kernels, the weights laid out for them: torch's own choice for float32 may be MKL, which is slow on such processors that are not
    Intel's. With AVX2 alone, and on a GPU, it is torch's own choice.
    """

    def __init__(self, weight: Any, bias: Any) -> None:
        import torch

        self.bias, self.dtype = bias.detach(), weight.dtype
        wide = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        self._packed = wide and weight.device.type == "cpu" and (self.dtype == torch.float32 or cpu_has_bf16())
        with torch.inference_mode(False):
            own = weight.detach().clone()
            self.weight = torch.ops.mkldnn._reorder_linear_weight(own, None) if self._packed else own

    def __call__(self, states: Any) -> Any:
        import torch

        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(states.to(self.dtype), self.weight, self.bias, "none", [], "")
        return torch.nn.functional.linear(states.to(self.dtype), self.weight, self.bias)


class Maker(ABC):
    """Makes what an engine's layers multiply by."""

    @abstractmethod
    def product(self, name: str, weight: Any, bias: Any) -> Product:
        """The product for a name (``3.joint``: of layer 3) with weights, float32 [out, in], and bias, float32 [out]: states [tokens, in] to [tokens, out]."""

    def feed_forward(self, name: str, inner: tuple[Any, Any], activation: Any, outer: tuple[Any, Any]) -> Product:
        """The feed-forward part of the layer with this name (``3``), states [tokens, hidden] to [tokens, hidden]: weights and bias of two products, float32 [inner, hidden] and
        [inner], and [hidden, inner] and [hidden], and a function between them.
        """
        first, second = self.product(f"{name}.inner", *inner), self.product(f"{name}.outer", *outer)
        return lambda states: second(activation(first(states)))


class Plain(Maker):
    """Products in one kind of number: torch.float32 or torch.bfloat16."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def product(self, name: str, weight: Any, bias: Any) -> Product:
        """As :meth:`Maker.product`."""
        return Linear(weight.to(self._kind), bias.to(self._kind))


class Layer(NamedTuple):
    """A layer's parts. ``joint`` gives queries, keys and values side by side, [tokens, 3 hidden]."""

    joint: Product
    attention: Product
    attention_norm: Any
    feed_forward: Product
    norm: Any

    def after(self, mixed: Any, states: Any) -> Any:
        """What follows attention: [tokens, hidden] from its output and the layer's input."""
        states = self.attention_norm(self.attention(mixed) + states)
        return self.norm(self.feed_forward(states) + states)


def products(layer: Any) -> list[Any]:
    """The modules of a layer that multiply: query, key, value, attention's output, and the two of the feed-forward part."""
    own = layer.attention.self
    return [own.query, own.key, own.value, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense]


def state_of(model: Any) -> list[tuple[int, int]]:
    """Tells weights that were replaced or written to."""
    return [(weights.data_ptr(), 0 if weights.is_inference() else weights._version) for weights in model.parameters()]


def _averages(layer: Any) -> bool:
    """Whether a layer's attention is the same for every token: with queries of 0 no key counts."""
    query = layer.attention.self.query
    return not bool(query.weight.any()) and not bool(query.bias.any())


class Engine:
    """Logits of a ``...ForSequenceClassification`` model of one of the ``FAMILIES``.

    :param bf16: products in bf16; sums, norms and the head stay in fp32, as under autocast.
    :param types: whether the passage's tokens are of type 1, as the tokenizer has it; else all are of type 0.
    :param maker: makes the products, by default those in bf16 or fp32. The layer that averages, and the last one where it is not that, keep the default.
    """

    def __init__(self, model: Any, bf16: bool, types: bool, maker: Maker | None = None) -> None:
        import torch

        base = model.base_model
        self._model, self._embeddings, self._heads = model, base.embeddings, model.config.num_attention_heads
        self._device = base.embeddings.word_embeddings.weight.device
        self._padded = self._device.type != "cpu"
        self._padding = None if model.config.model_type == "bert" else base.embeddings.padding_idx
        if self._device.type == "cpu":
            keep_memory()
        self._types, self._weights = types, state_of(model)
        plain = Plain(torch.bfloat16 if bf16 else torch.float32)
        stack = list(base.encoder.layer)
        self._pools = _averages(stack[-1])
        with torch.no_grad():
            self._layers = [self._layer(at, layer, maker or plain) for at, layer in enumerate(stack[:-1])]
            self._last = self._layer(len(stack) - 1, stack[-1], plain)
            own = stack[-1].attention.self
            self._query = plain.product("query", own.query.weight, own.query.bias)
            self._others = plain.product("others", torch.cat([own.key.weight, own.value.weight]), torch.cat([own.key.bias, own.value.bias]))
            self._value = Linear(own.value.weight, own.value.bias)

    def _layer(self, at: int, layer: Any, maker: Maker) -> Layer:
        import torch

        query, key, value, attention, inner, outer = products(layer)
        weight, bias = (torch.cat([getattr(part, name) for part in (query, key, value)]) for name in ("weight", "bias"))
        return Layer(
            maker.product(f"{at}.joint", weight, bias),
            maker.product(f"{at}.attention", attention.weight, attention.bias),
            layer.attention.output.LayerNorm,
            maker.feed_forward(f"{at}", (inner.weight, inner.bias), layer.intermediate.intermediate_act_fn, (outer.weight, outer.bias)),
            layer.output.LayerNorm,
        )

    @staticmethod
    def serves(model: Any) -> bool:
        """Whether a model is one of those that the engine computes: in float32, with layers as they were published (no adapters inside)."""
        import torch

        config = model.config
        if config.model_type not in FAMILIES or any(weights.dtype != torch.float32 for weights in model.parameters()):
            return False
        plain = all(type(part) is torch.nn.Linear for layer in model.base_model.encoder.layer for part in products(layer))
        return (
            plain
            and not config.is_decoder
            and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
            and not getattr(config, "add_cross_attention", False)
        )

    def is_current(self) -> bool:
        """Whether the model's weights are still those that the engine was made from."""
        return self._weights == state_of(self._model)

    @property
    def depth(self) -> int:
        """Layers, the last (which differs) not counted."""
        return len(self._layers)

    def logits(self, inputs: Sequence[Encoded]) -> Any:
        """Logits of inputs in an order in which those of one length stand together: float32 [inputs, labels]."""
        return self._head(self._firsts(*self._encoded(inputs, self._layers)))

    def means(self, inputs: Sequence[Encoded], layers: int) -> Any:
        """The mean state of each input's tokens after so many of the layers: float32 [inputs, hidden]; order as for ``logits``."""
        states, layout = self._encoded(inputs, self._layers[:layers])
        return layout.means(states)

    def _encoded(self, inputs: Sequence[Encoded], layers: Sequence[Layer]) -> tuple[Any, Runs | Padded]:
        """The states after these layers, [tokens and filling, hidden], and where each input's are."""
        tables = self._embeddings
        tokens, layout = laid_out(inputs, self._padding, self._types, self._device, self._padded)
        found = tables.word_embeddings(tokens.ids) + tables.token_type_embeddings(tokens.types) + tables.position_embeddings(tokens.positions)
        states = tables.LayerNorm(found)
        for layer in layers:
            states = layer.after(layout.attended(layer.joint(states), self._heads), states)
        return states, layout

    def _firsts(self, states: Any, layout: Runs | Padded) -> Any:
        """The last layer's output for the first token of each input: float32 [inputs, hidden]."""
        own = layout.firsts(states)
        if self._pools:
            return self._last.after(self._value(layout.means(states)), own)
        return self._last.after(layout.asked(self._query(own), self._others(states), self._heads), own)

    def _head(self, firsts: Any) -> Any:
        states = firsts.float().unsqueeze(1)
        if self._model.config.model_type == "bert":
            return self._model.classifier(self._model.base_model.pooler(states))
        return self._model.classifier(states)
