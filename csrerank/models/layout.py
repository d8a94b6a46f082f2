"""How a batch lies in memory: the tokens of all inputs one behind the other, without padding, and the steps that need to know where each input begins.

On a CPU attention takes inputs of one length together, which needs neither padding nor a mask. On a GPU, where each call costs more than the padding of a batch of much the
same lengths, one call takes all of them, padded for that call alone. There everything that tells the places goes over in one transfer, out of memory that the GPU
reads by itself, and nothing waits for it.
"""

from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

import numpy as np

from csrerank.models.batching import Encoded

# Rows are filled up to a multiple: oneDNN makes code for each number of rows that it meets, which takes longer than the rows.
ROWS = 64
_SHORT = 128  # tokens up to which two products are faster on a CPU than the fused kernel, which saves memory


class Tokens(NamedTuple):
    """What the embeddings are looked up by: int64 [tokens] each, on the device."""

    ids: Any
    positions: Any
    types: Any


class Run(NamedTuple):
    """Inputs of one length that lie one behind the other: ``inputs`` of ``length`` tokens each from row ``start`` on."""

    start: int
    inputs: int
    length: int

    def of(self, states: Any) -> Any:
        """Their rows: [inputs, length, columns]."""
        return states[self.start : self.start + self.inputs * self.length].view(self.inputs, self.length, -1)


class Runs:
    """Inputs, in the processor's memory, of which attention takes those of one length together."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._runs: list[Run] = []
        start = 0
        for length, same in groupby(lengths):
            run = Run(start, len(list(same)), length)
            self._runs.append(run)
            start += run.inputs * length
        self._tokens = start

    def attended(self, joint: Any, heads: int) -> Any:
        """Attention of all tokens of an input over each other, [rows, hidden], from queries, keys and values side by side."""
        import torch

        mixed = torch.empty(len(joint), joint.shape[1] // 3, dtype=joint.dtype)
        for run in self._runs:
            products = _by_products(joint, run.length)
            query, key, value = _parted(run.of(joint), 3, heads, products)
            run.of(mixed).unflatten(2, (heads, -1))[:] = _attended(query, key, value, products).transpose(1, 2)
        mixed[self._tokens :] = mixed[self._tokens - 1]
        return mixed

    def asked(self, query: Any, others: Any, heads: int) -> Any:
        """Attention of one query an input, [inputs, hidden], over its tokens' keys and values side by side."""
        import torch

        mixed, at = [], 0
        for run in self._runs:
            products = _by_products(others, run.length)
            (own,), (key, value) = _parted(query[at : at + run.inputs, None], 1, heads, products), _parted(run.of(others), 2, heads, products)
            mixed.append(_joined(_attended(own, key, value, products))[:, 0])
            at += run.inputs
        return torch.cat(mixed)

    def firsts(self, states: Any) -> Any:
        """The rows of the first tokens: [inputs, hidden]."""
        import torch

        return torch.cat([run.of(states)[:, 0] for run in self._runs])

    def means(self, states: Any) -> Any:
        """The mean row of each input: [inputs, hidden]."""
        import torch

        return torch.cat([run.of(states).mean(1) for run in self._runs])


class Padded:
    """Inputs of which attention takes all at once.

    :param starts: the row of each input's first token: int64 [inputs] on the device, as the others.
    :param lengths: tokens of each input: int64 [inputs].
    :param rows: of each place of the padded matrix the row it is taken from: int64 [inputs * longest]; padding takes some row of the same input.
    :param places: of each row (filling too) its place in the padded matrix: int64 [rows].
    :param longest: tokens of the longest input.
    :param alike: whether all have as many, so that there is no padding.
    """

    def __init__(self, starts: Any, lengths: Any, rows: Any, places: Any, longest: int, alike: bool) -> None:
        import torch

        self._starts, self._lengths, self._rows, self._places, self._longest = starts, lengths, rows, places, longest
        self._taken = None if alike else torch.arange(longest, device=lengths.device) < lengths[:, None]

    def attended(self, joint: Any, heads: int) -> Any:
        """As ``Runs.attended``."""
        mixed = _joined(self._over(*_parted(self._padded(joint), 3, heads)))
        return mixed.flatten(0, 1).index_select(0, self._places)

    def asked(self, query: Any, others: Any, heads: int) -> Any:
        """As ``Runs.asked``."""
        return _joined(self._over(*_parted(query[:, None], 1, heads), *_parted(self._padded(others), 2, heads)))[:, 0]

    def firsts(self, states: Any) -> Any:
        """As ``Runs.firsts``."""
        return states.index_select(0, self._starts)

    def means(self, states: Any) -> Any:
        """As ``Runs.means``."""
        padded = self._padded(states)
        return (padded if self._taken is None else padded * self._taken[:, :, None]).sum(1) / self._lengths[:, None]

    def _padded(self, states: Any) -> Any:
        return states.index_select(0, self._rows).view(len(self._starts), self._longest, -1)

    def _over(self, query: Any, key: Any, value: Any) -> Any:
        import torch

        mask = None if self._taken is None else self._taken[:, None, None, :]
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def laid_out(inputs: Sequence[Encoded], padding: int | None, types: bool, device: Any, padded: bool) -> tuple[Tokens, Runs | Padded]:
    """The tokens of a batch, filled up by copies of the last one (a row that no text has would count among the ranges that int8 goes by), and where they lie.

    :param inputs: in an order in which those of one length stand together.
    :param padding: the id from which RoBERTa's kin count positions, leaving out that id itself, which a text may hold; None where all are counted from 0, as BERT does.
    :param types: whether the passage's tokens are of type 1; else all are of type 0.
    :param padded: whether attention takes all at once, as suits a GPU.
    """
    import torch

    lengths = np.fromiter((len(row.ids) for row in inputs), np.int64, len(inputs))
    starts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(row.ids for row in inputs), np.int64, total)
    within = np.arange(total) - np.repeat(starts, lengths)
    positions = within
    if padding is not None:
        counted = ids != padding
        running = np.cumsum(counted)
        positions = (running - np.repeat(running[starts] - counted[starts], lengths)) * counted + padding
    split = np.fromiter((row.split for row in inputs), np.int64, len(inputs)) if types else lengths
    kinds = within >= np.repeat(split, lengths)
    filled = -(-total // ROWS) * ROWS
    parts = [np.concatenate([part, np.full(filled - total, part[-1])]).astype(np.int64) for part in (ids, positions, kinds)]
    if not padded:
        return Tokens(*map(torch.from_numpy, parts)), Runs(lengths.tolist())
    longest = int(lengths.max())
    rows = starts[:, None] + np.minimum(np.arange(longest), lengths[:, None] - 1)
    places = within + np.repeat(np.arange(len(inputs)) * longest, lengths)
    parts += [starts, lengths, rows.ravel(), np.concatenate([places, np.full(filled - total, places[-1])])]
    whole = torch.from_numpy(np.concatenate(parts))
    whole = (whole.pin_memory() if device.type == "cuda" else whole).to(device, non_blocking=True)
    *tokens, first, counts, taken, back = whole.split([len(part) for part in parts])
    return Tokens(*tokens), Padded(first, counts, taken, back, longest, bool((lengths == longest).all()))


def _parted(states: Any, parts: int, heads: int, copied: bool = False) -> tuple[Any, ...]:
    """What stands side by side, [inputs, tokens, parts x hidden], each as [inputs, heads, tokens, size]: views, or ``copied`` at once, where a product would copy each."""
    each = states.view(*states.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4)
    return tuple(each.contiguous() if copied else each)


def _joined(states: Any) -> Any:
    """The heads side by side again: [inputs, tokens, hidden]."""
    return states.transpose(1, 2).flatten(2)


def _attended(query: Any, key: Any, value: Any, products: bool) -> Any:
    """Attention over whole inputs on a CPU, each [inputs, heads, tokens, size]; by two ``products`` and a softmax, or by the fused kernel."""
    import torch

    if not products:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)
    # In float32 the softmax takes half of the time, because rows of bfloat16 that do not fill a register are read one number at a time.
    scores = torch.matmul(query, key.transpose(2, 3)).float().mul_(query.shape[3] ** -0.5)
    return torch.matmul(torch.softmax(scores, -1).to(value.dtype), value)


def _by_products(states: Any, length: int) -> bool:
    """Whether on a CPU attention over so many tokens is two products and a softmax."""
    import torch

    return bool(states.dtype != torch.float32 and length <= _SHORT)
