"""From texts to batches: pairs encoded with the query capped and only the passage cut, and batches of similar length under a token budget."""

from collections.abc import Iterator, Sequence
from typing import Any

from csrerank.errors import InputError


class PairEncoder:
    """Token ids of (query, passage) pairs for one tokenizer.

    The query keeps its first ``query_tokens`` tokens and the passage what is left of ``max_length``. ``queries_cut`` and ``passages_cut`` count what lost tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int = 512, query_tokens: int = 64) -> None:
        self.tokenizer, self.max_length, self.query_tokens = tokenizer, max_length, query_tokens
        # Most families put the same special tokens around every pair, so they are learnt once and the pair assembled from ids: each text is then tokenised once.
        self.queries_cut = self.passages_cut = 0
        marker = next((number for number in range(len(tokenizer)) if number not in set(tokenizer.all_special_ids)), None)
        if marker is None:
            raise InputError("the tokenizer has no ordinary tokens; give a model directory whose tokenizer is complete")
        probe = tokenizer("", "", add_special_tokens=True)["input_ids"]
        self.special = len(probe)
        if query_tokens + self.special >= max_length:
            raise InputError(f"--query-tokens {query_tokens} leaves no room for the passage in --max-length {max_length}; lower it")
        self.prefix, self.middle, self.suffix, self.types = self._template()

    def _template(self) -> tuple[list[int], list[int], list[int], tuple[int, int] | None]:
        """The ids before the query, between query and passage, and after it, found by encoding a pair whose ids are known; and the token types of the two, for models that have them."""
        first, second = self._ids(["a"])[0], self._ids(["b c"])[0]
        whole = self.tokenizer("a", "b c", return_token_type_ids=True)
        ids, types = whole["input_ids"], whole["token_type_ids"]
        start = next(at for at in range(len(ids)) if ids[at : at + len(first)] == first)
        end = start + len(first)
        second_start = next(at for at in range(end, len(ids)) if ids[at : at + len(second)] == second)
        uses_types = "token_type_ids" in self.tokenizer.model_input_names
        return ids[:start], ids[end:second_start], ids[second_start + len(second) :], (types[end - 1], types[second_start]) if uses_types else None

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def encode(self, queries: Sequence[str], passages: Sequence[str]) -> list[list[int]]:
        """Ids of each pair, each distinct text tokenised once."""
        query_ids = dict(zip(distinct := list(dict.fromkeys(queries)), self._ids(distinct), strict=True))
        passage_ids = dict(zip(distinct := list(dict.fromkeys(passages)), self._ids(distinct), strict=True))
        self.queries_cut += sum(len(ids) > self.query_tokens for ids in query_ids.values())
        return [self.pair(query_ids[query], passage_ids[passage]) for query, passage in zip(queries, passages, strict=True)]

    def pair(self, query: list[int], passage: list[int]) -> list[int]:
        """The ids of one pair from the ids of its texts, cut to ``max_length``."""
        query = query[: self.query_tokens]
        room = self.max_length - self.special - len(query)
        self.passages_cut += len(passage) > room
        return [*self.prefix, *query, *self.middle, *passage[:room], *self.suffix]


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length whose padded size (rows x longest) stays within ``token_budget``; a pair longer than the budget goes alone.

    Longest first, so that memory runs out at the start if it does.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        longest = longest or lengths[index]
        if batch and (len(batch) + 1) * longest > token_budget:
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch
