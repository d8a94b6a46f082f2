"""From texts to batches: pairs encoded with the query capped and only the passage cut, and batches of similar length under a token budget."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from csrerank.errors import InputError

KEPT = 1 << 26  # bytes of texts and their token ids that are kept, since a document comes up again for other topics
_EACH = 256  # bytes that a text takes beside its own and its ids'

Spans = Callable[[int], list[tuple[int, int]]]


class Encoded(NamedTuple):
    """One input of the model: its token ids, and where the passage begins."""

    ids: list[int]
    split: int


class PairEncoder:
    """Token ids of (query, passage) pairs for one tokenizer.

    The query keeps its first ``query_tokens`` tokens and the passage what is left of ``max_length``. ``passages_cut`` counts the inputs whose passage lost
    tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int = 512, query_tokens: int = 64) -> None:
        self.tokenizer, self.max_length, self.query_tokens = tokenizer, max_length, query_tokens
        self.passages_cut = 0
        self._known: OrderedDict[str, array[int]] = OrderedDict()  # whose first is found at once, as that of a dictionary is not after many were dropped
        self._bytes = 0  # of those, about
        self.prefix, self.middle, self.suffix = self._template()
        self.special = len(self.prefix) + len(self.middle) + len(self.suffix)
        # Some tokenizers of RoBERTa's kin, which knows one type only, give types that are all 0.
        self.uses_types = any(tokenizer("a", "b c").get("token_type_ids", ()))
        if query_tokens + self.special >= max_length:
            raise InputError(f"--query-tokens {query_tokens} leaves no room for the passage in --max-length {max_length}; lower the one or raise the other")

    def _template(self) -> tuple[list[int], list[int], list[int]]:
        """The special ids before the query, between query and passage, and after it, learnt from a pair whose own ids are known; so each text is tokenised
        once, not once a pair.
        """
        first, second = self._ids(["a", "b c"])
        whole = self.tokenizer("a", "b c")["input_ids"]
        special = set(self.tokenizer.all_special_ids)  # with the unknown one: a tokenizer that knows no word is none
        start = next((at for at, token in enumerate(whole) if token not in special), 0)
        middle = start + len(first)
        passage = next((at for at in range(middle, len(whole)) if whole[at] not in special), 0)
        if whole[start:middle] != first or whole[passage : passage + len(second)] != second:
            raise InputError(
                f"the tokenizer {type(self.tokenizer).__name__} does not put special tokens around two plain texts, as cross-encoders need; give a checkpoint of another family"
            )
        return whole[:start], whole[middle:passage], whole[passage + len(second) :]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def _distinct(self, texts: Sequence[str]) -> "dict[str, array[int]]":
        found = {text: self._known.get(text) for text in texts}
        if new := [text for text, ids in found.items() if ids is None]:
            made = {text: array("i", ids) for text, ids in zip(new, self._ids(new), strict=True)}
            self._known.update(made)
            self._bytes += sum(_size(text, ids) for text, ids in made.items())
            found.update(made)
        while self._bytes > KEPT:  # those that came first go first
            self._bytes -= _size(*self._known.popitem(last=False))
        return found  # type: ignore[return-value]

    def forget(self) -> None:
        """Drop the texts that are kept."""
        self._known.clear()
        self._bytes = 0

    def queries_cut(self, queries: Sequence[str]) -> int:
        """How many of these lose tokens to ``query_tokens``."""
        return sum(len(ids) > self.query_tokens for ids in self._distinct(queries).values())

    def encode(self, queries: Sequence[str], passages: Sequence[str], spans: Spans | None = None) -> tuple[list[Encoded], list[int]]:
        """The inputs of all pairs, each distinct text tokenised once (and not again while it is among those kept), and the pair that each input belongs to.

        A pair gives one input, or with ``spans`` (which gives the windows over so many passage tokens) one a window.
        """
        query_ids, passage_ids = self._distinct(queries), self._distinct(passages)
        inputs: list[Encoded] = []
        owners: list[int] = []
        for pair, (query, passage) in enumerate(zip(queries, passages, strict=True)):
            ids = passage_ids[passage]
            for start, end in spans(len(ids)) if spans else [(0, len(ids))]:
                inputs.append(self.assemble(query_ids[query], ids[start:end]))
                owners.append(pair)
        return inputs, owners

    def assemble(self, query: Sequence[int], passage: Sequence[int]) -> Encoded:
        """One input from the ids of its texts, cut to ``query_tokens`` and ``max_length``."""
        query = query[: self.query_tokens]
        room = self.max_length - self.special - len(query)
        self.passages_cut += len(passage) > room
        head = [*self.prefix, *query, *self.middle]
        return Encoded([*head, *passage[:room], *self.suffix], len(head))


def _size(text: str, ids: "array[int]") -> int:
    return _EACH + 2 * len(text) + 4 * len(ids)


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length whose padded size (rows x longest) stays within ``token_budget``; an input longer than the budget goes alone.

    Longest first, so that memory runs out at the start if it does.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        if batch and (len(batch) + 1) * longest > token_budget:
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
        batch.append(index)
    if batch:
        yield batch
