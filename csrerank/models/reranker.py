"""The cross-encoder: load a Hugging Face sequence-classification checkpoint, score (query, passage) pairs, re-rank."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from csrerank.errors import InputError
from csrerank.models import int8
from csrerank.models.batching import Encoded, PairEncoder, batches
from csrerank.models.calibration import Calibration, bf16_holds, calibrated, calibration_of
from csrerank.models.cascade import Pruner
from csrerank.models.checkpoint import DEFAULT_MODEL, directory_hash, position_limit, tokenizer_state
from csrerank.models.engine import Engine, state_of
from csrerank.models.loading import loaded
from csrerank.models.memory import give_back_memory, is_out_of_memory
from csrerank.models.precision import FEW, PRECISIONS, TRAINED, cpu_has_bf16, head_in_fp32, refine, resolve_precision
from csrerank.models.settings import Settings

BATCH_TOKENS = {"cuda": 8192, "cpu": 2048}  # on a CPU a batch's states stay in the cache
_MUCH = 1000  # inputs after which memory is given back
Candidate = TypeVar("Candidate")


class Prepared(NamedTuple):
    """Pairs in token ids: ``inputs``, the distinct pair that each is of (int64 [inputs]), the topic of each of these, and of each pair as given its distinct one (int64
    [pairs]); and how many inputs lost tokens."""

    inputs: list[Encoded]
    owner: np.ndarray
    topics: list[Any]
    order: np.ndarray
    passages_cut: int


class Reranker:
    """A cross-encoder with one logit, or two (the log-odds of the second then count).

    Scores are the raw logits: unbounded, higher is better, comparable within one model only. In ``mixed`` precision, and with a ``pruner``, those below a topic's best are moved
    to stand below them, and compare within their topic and call only.
    """

    def __init__(
        self, model: Any, tokenizer: Any, settings: Settings = Settings(), device: str | None = None, directory: Path | None = None, calibration: Calibration | None = None,  # noqa: B008 - immutable
    ) -> None:  # fmt: skip
        import torch

        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.tokenizer, self.directory = model.eval().to(self.device), tokenizer, directory
        limit = position_limit(model, tokenizer)
        if settings.max_length > limit:
            raise InputError(f"--max-length {settings.max_length} is more than the model's {limit} tokens; give {limit} or less")
        self._engines: dict[str, Engine] = {}
        self._given, self._calibration = state_of(model), calibration
        self.encoder = PairEncoder(tokenizer, settings.max_length, settings.query_tokens)
        precision = self._chosen(settings.precision)
        self.settings = settings._replace(
            precision=precision,
            batch_tokens=settings.batch_tokens or BATCH_TOKENS["cpu" if self.device.type == "cpu" else "cuda"],
        )
        room = settings.max_length - settings.query_tokens - self.encoder.special
        if settings.windows and settings.windows.size > room:
            raise InputError(
                f"--window {settings.windows.size}: beside a query of --query-tokens {settings.query_tokens}, --max-length {settings.max_length} has room for {room} tokens; give {room} or less"
            )
        self.budget_halvings = self._since = 0
        self.pruner: Pruner | None = None

    @classmethod
    def load(
        cls, name: str | Path = DEFAULT_MODEL, settings: Settings = Settings(), device: str | None = None, calibration: Calibration | None = None, light: bool = False,  # noqa: B008
    ) -> "Reranker":  # fmt: skip
        """Load a checkpoint: ``default`` (the one that ships), a directory, or a name on the Hugging Face hub. ``calibration`` is that of int8, where it was made
        already (on another machine it may differ in the last bits). ``light``: without transformers where ``models.light`` can, which starts sooner and
        gives the same scores, but whose ``model`` and ``tokenizer`` are good for scoring alone.

        Raises ``InputError`` for an unknown name, a directory without a checkpoint, or a model that does not give one or two logits.
        """
        model, tokenizer, path = loaded(name, device, light)
        return cls(model, tokenizer, settings, device, path, calibration)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer: the directory's files, or what was loaded, for a model that came from a hub."""
        if self.directory is not None:
            return directory_hash(self.directory)
        digest = hashlib.sha256(self.model.config.to_json_string().encode() + tokenizer_state(self.tokenizer))
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + b"\0" + tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def calibration(self) -> Calibration | None:
        """What int8 goes by, where the precision has any of it."""
        return self._calibrated() if self.settings.precision in ("mixed", "int8") else None

    def score_pairs(
        self, queries: Sequence[str], passages: Sequence[str], advance: Callable[[int], object] | None = None, groups: Sequence[int] | None = None
    ) -> np.ndarray:
        """Scores of ``queries[i]`` with ``passages[i]``: float32 [pairs]. ``advance`` is told how many pairs were finished. ``groups`` tells which pairs are of one topic
        (by default those with one query), for ``mixed`` precision, which scores the best of each topic again, and for a ``pruner``, which leaves out the others.

        Pairs are batched longest first under the token budget; on running out of memory the budget halves and the call starts over, so that what it returns
        never mixes two batchings. Each call begins at the full budget, so that what came before does not matter. Raises ``InputError`` where memory does
        not hold a single input.
        """
        return self.scores_of(self.prepared(queries, passages, groups), advance)

    def prepared(self, queries: Sequence[str], passages: Sequence[str], groups: Sequence[int] | None = None) -> "Prepared":
        """What ``score_pairs`` computes on, in token ids; can be made in another thread while scores are computed, though not in two at once."""
        # Each pair of texts of a topic once: at two places of a batch the same text could differ in the last bits, and twins would not tie.
        pairs = list(zip(groups if groups is not None else queries, queries, passages, strict=True))
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        cut = self.encoder.passages_cut
        inputs, owners = self.encoder.encode(
            [query for _, query, _ in places], [passage for _, _, passage in places], self.settings.windows.spans if self.settings.windows else None
        )
        topics, order = [group for group, _, _ in places], np.array([places[pair] for pair in pairs], np.int64)
        return Prepared(inputs, np.array(owners, np.int64), topics, order, self.encoder.passages_cut - cut)

    def scores_of(self, prepared: "Prepared", advance: Callable[[int], object] | None = None) -> np.ndarray:
        """As ``score_pairs``, from what ``prepared`` gave."""
        inputs, owner, topics, order, _ = prepared
        if not len(order):
            return np.zeros(0, np.float32)
        precision = self.settings.precision

        def again(best: list[int]) -> np.ndarray:
            rows = np.flatnonzero(np.isin(owner, best))
            return self._scored([inputs[row] for row in rows], np.searchsorted(best, owner[rows]), self.exact, None)

        if self.pruner is not None:
            scores = refine(self._scored(inputs, owner, "shallow", advance), topics, again, self.pruner.count)
        elif precision == "mixed":
            sizes = Counter(topics)
            rows = np.flatnonzero([sizes[topics[pair]] > FEW for pair in owner])
            coarse, many = np.zeros(len(topics), np.float32), np.unique(owner[rows])
            if len(rows):
                coarse[many] = self._scored([inputs[row] for row in rows], np.searchsorted(many, owner[rows]), "int8", advance)
            scores = refine(coarse, topics, again)
            if advance is not None:
                advance(len(topics) - len(many))
        else:
            scores = self._scored(inputs, owner, precision, advance)
        if advance is not None and len(topics) < len(order):
            advance(len(order) - len(topics))
        self._since += len(inputs)
        if self.device.type == "cpu" and self._since >= _MUCH:
            self._since = 0
            give_back_memory()
        return scores[order]

    def _scored(self, inputs: list[Encoded], owner: np.ndarray, precision: str, advance: Callable[[int], object] | None) -> np.ndarray:
        """Scores of the pairs that ``owner`` counts from 0, each that of its best input: float32 [pairs]."""
        full = self.settings.batch_tokens

        def compute(budget: int) -> np.ndarray:
            # A second pass must not count pairs twice.
            return self._forward(inputs, owner, precision, budget, advance if budget == full else None)

        logits = self._halving(inputs, compute)
        scores = np.full(int(owner[-1]) + 1, -np.inf, np.float32)
        np.maximum.at(scores, owner, logits)
        return scores

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Scores of ``texts`` for one query: float32 [texts]."""
        return self.score_pairs([query] * len(texts), texts)

    def rerank(self, query: str, candidates: Sequence[Candidate], text: Callable[[Candidate], str] = str) -> list[tuple[Candidate, float]]:
        """The candidates with their scores, best first; ties keep the order given. ``text`` gets a candidate's text. The input is left as it is."""
        scores = self.score(query, [text(candidate) for candidate in candidates])
        order = sorted(range(len(candidates)), key=lambda at: -scores[at])
        return [(candidates[at], float(scores[at])) for at in order]

    def _forward(self, inputs: list[Encoded], owner: np.ndarray, precision: str, budget: int, advance: Callable[[int], object] | None) -> np.ndarray:
        import torch

        logits = np.zeros(len(inputs), np.float32)
        order: list[int] = []
        parts: list[Any] = []
        compute = self._computing(precision)
        with torch.inference_mode():
            for rows in batches([len(row.ids) for row in inputs], budget):
                output = compute([inputs[row] for row in rows])
                # Left on the device: the next batch is prepared while a GPU still computes.
                parts.append(output[:, 0] if output.shape[1] == 1 else output[:, 1] - output[:, 0])
                order += rows
                if advance is not None:  # windows of one pair are spread over batches: report in proportion
                    pairs = int(owner[-1]) + 1
                    advance(pairs * len(order) // len(inputs) - pairs * (len(order) - len(rows)) // len(inputs))
            logits[order] = torch.cat(parts).cpu().numpy()
        if not np.isfinite(logits).all():
            raise InputError("the model gave a score that is not a number; the checkpoint is damaged, or needs --precision fp32")
        return logits

    def _computing(self, precision: str) -> Callable[[list[Encoded]], Any]:
        """What computes logits: the engine where it can, made anew where weights changed."""
        if not self._served():
            if precision not in ("fp32", "bf16"):
                raise InputError(f"--precision {precision}: this model is not computed by csrerank's engine here; give fp32 or bf16")
            return lambda rows: self._padded_logits(rows, precision)
        if precision == "shallow":
            pruner, engine = self.pruner, self._engine(self.exact)
            assert pruner is not None
            predict = pruner.predictor(self.device)
            return lambda rows: predict(engine.means(rows, pruner.layers))
        return self._engine(precision).logits

    def _engine(self, precision: str) -> Engine:
        if not all(engine.is_current() for engine in self._engines.values()):
            self._engines.clear()
        if precision not in self._engines:
            maker = int8.Integers(self._calibrated().ranges) if precision == "int8" else None
            self._engines[precision] = Engine(self.model, precision == "bf16", self.encoder.uses_types, maker)
        return self._engines[precision]

    @property
    def exact(self) -> str:
        """The floating-point precision: float32 beside integers."""
        return self.settings.precision if self.settings.precision in TRAINED else "fp32"

    @property
    def arithmetic(self) -> str:
        """What computes: the precision, and for ``mixed`` and ``int8`` what stands between products of integers on this processor, and the largest code of a weight."""
        precision = self.settings.precision
        return precision if precision in TRAINED else f"{precision} ({'bf16' if cpu_has_bf16() else 'fp32'} between, weights to {int8.largest_weight()})"

    def _auto(self) -> str:
        """bf16 where the device multiplies that itself and the checkpoint ranks the demo's pairs in it as in fp32; else fp32."""
        if resolve_precision("auto", self.device) == "fp32":
            return "fp32"

        def logits(bf16: bool) -> Callable[[list[Encoded]], Any]:
            if self._served():
                return Engine(self.model, bf16, self.encoder.uses_types).logits
            return lambda rows: self._padded_logits(rows, "bf16" if bf16 else "fp32")

        try:
            holds = bf16_holds(self.fingerprint, self.device, self.tokenizer, position_limit(self.model, self.tokenizer), logits)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                "memory does not hold the model in fp32 beside bf16, which --precision auto compares first; give --precision bf16 or fp32"
            ) from error
        return "bf16" if holds else "fp32"

    @property
    def depth(self) -> int:
        """Layers whose states ``means`` can give; 0 where the model's own code computes."""
        return self._engine(self.exact).depth if self._served() else 0

    def means(self, queries: Sequence[str], passages: Sequence[str], layers: int) -> np.ndarray:
        """The mean state of each pair's tokens after the first ``layers``: float32 [pairs, hidden]."""
        import torch

        inputs, _ = self.encoder.encode(queries, passages)
        engine = self._engine(self.exact)
        found, lengths = np.zeros((len(inputs), self.model.config.hidden_size), np.float32), [len(row.ids) for row in inputs]

        def compute(budget: int) -> np.ndarray:
            with torch.inference_mode():
                for rows in batches(lengths, budget):
                    found[rows] = engine.means([inputs[row] for row in rows], layers).cpu().numpy()
            return found

        return self._halving(inputs, compute)

    def _halving(self, inputs: Sequence[Encoded], compute: Callable[[int], np.ndarray]) -> np.ndarray:
        """What ``compute`` gives for the token budget, or for half of it and so on where memory runs out; ``InputError`` where it does not hold the longest input."""
        budget, longest = self.settings.batch_tokens or 0, max(len(row.ids) for row in inputs)
        while True:
            try:
                return compute(budget)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if budget <= longest:
                    raise InputError(f"memory does not hold one input of {longest} tokens; lower --max-length") from error
                budget //= 2
                self.budget_halvings += 1

    def _served(self) -> bool:
        return self.device.type in ("cpu", "cuda") and Engine.serves(self.model)

    def _computes_integers(self) -> bool:
        return self.device.type == "cpu" and self._served() and int8.supported()

    def _chosen(self, precision: str) -> str:
        """The precision that a name stands for."""
        if precision not in PRECISIONS:
            raise InputError(f"unknown precision {precision!r}; known are {' '.join(PRECISIONS)}")
        if precision in ("fp32", "bf16"):
            return precision
        if precision in ("int8", "mixed"):
            if not self._computes_integers():
                raise InputError(
                    f"--precision {precision}: needs a model of BERT's kin on a processor that multiplies 8-bit integers (VNNI or AVX2); give auto"
                )
            return precision
        return self._auto()

    def take_fastest(self, candidates: float) -> None:
        """Go over to ``mixed``, for good, where 8-bit products are fast enough here for so many candidates of a topic on average, and their scores hold on the demo's pairs. Scores
        then depend on a topic's other candidates.
        """
        able = self.settings.precision in TRAINED and self._computes_integers() and self.model.config.hidden_size >= int8.WIDE
        if able and candidates > FEW and self._calibrated().pays(self.exact, candidates):
            self.settings = self.settings._replace(precision="mixed")

    def _calibrated(self) -> Calibration:
        """The calibration of int8: given, kept in the cache for a checkpoint as it was loaded, or made for weights that are in memory only."""
        current = state_of(self.model)
        if self._calibration is None or current != self._given:

            def make() -> Calibration:
                return calibrated(self.model, self.tokenizer, self.encoder.uses_types, position_limit(self.model, self.tokenizer))

            self._calibration, self._given = calibration_of(self.fingerprint, make) if current == self._given else make(), current
        return self._calibration

    def _padded_logits(self, rows: list[Encoded], precision: str = "fp32") -> Any:
        """Logits by the model's own code: float32 [rows, labels]."""
        import torch

        bf16 = precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16), head_in_fp32(self.model, bf16):
            return self.model(**self._padded(rows)).logits.float()

    def _padded(self, rows: list[Encoded]) -> dict[str, Any]:
        import torch

        lengths, splits = np.array([[len(row.ids), row.split] for row in rows]).T[:, :, None]
        places = np.arange(lengths.max())
        taken = places < lengths
        ids = np.full(taken.shape, self.tokenizer.pad_token_id)
        ids[taken] = np.concatenate([row.ids for row in rows])
        # One transfer, out of memory that a GPU reads by itself while the processor prepares the next batch.
        tensors = torch.from_numpy(np.stack([ids, taken, taken & (places >= splits)]))
        cuda = self.device.type == "cuda"
        if cuda:
            tensors = tensors.pin_memory()
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if self.encoder.uses_types else [])]
        return dict(zip(names, tensors.to(self.device, non_blocking=cuda), strict=False))
