"""What faster arithmetic needs to know of a checkpoint, seen on texts of the demo collection: whether its scores hold, and for int8 the range of every product's input."""

import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csrerank.cache import cache_folder
from csrerank.errors import InputError
from csrerank.files import atomic
from csrerank.models.batching import Encoded, PairEncoder, batches
from csrerank.models.engine import Engine, Linear, Maker, Product
from csrerank.models.int8 import Integers, Range, largest_weight
from csrerank.models.precision import REFINED, cpu_has_bf16

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 6  # of what is computed here, in engine.py, layout.py and int8.py: what was found out by another version is found out anew
TOLERANCE = 0.2
AGREEMENT = 0.95
FASTER = 1.05  # times as fast as fp32 ``mixed`` has to be, to be worth what it changes; beside bf16, which changes more among the best, it need not be
_BUDGET = 2048
_LONG = 512
_LONG_PAIRS = 4
_ROUNDS = 5
_FOUND = ("error", "agreement", "gain", "bf16_gain")
_PATIENCE = 120.0  # seconds; to find all this out takes a tenth of it


class Calibration:
    """Ranges by product name.

    ``error`` is the root mean square of int8's difference from exact scores, but for a constant, over the spread of these; ``agreement`` the share of all twos of inputs
    that it ranks as they do; ``gain`` how many times faster than float32 it scores here, ``bf16_gain`` how many times bfloat16 does (1 where the processor lacks that).
    """

    def __init__(self, ranges: dict[str, Range], error: float, agreement: float, gain: float, bf16_gain: float) -> None:
        self.ranges, self.error, self.agreement, self.gain, self.bf16_gain, self.kept = ranges, error, agreement, gain, bf16_gain, False

    def pays(self, precision: str, candidates: float) -> bool:
        """Whether int8 ranks passages as the exact products do, and is so fast that, with the best of a topic's ``candidates`` scored again in float32, it is faster than
        ``precision``: than fp32 by a twentieth, than bf16 as it comes.

        Never where the answer, which a stopwatch gives, cannot be kept in the cache: the same command would not always score alike.
        """
        alone = 1 / self.bf16_gain if precision == "bf16" else 1 / FASTER
        return self.kept and holds(self.error, self.agreement) and 1 / self.gain + REFINED / candidates <= alone

    @property
    def digest(self) -> str:
        """SHA-256 of the ranges: they make the scores."""
        found = hashlib.sha256(f"{VERSION}".encode())
        for name, seen in sorted(self.ranges.items()):
            found.update(name.encode() + seen.low.numpy().tobytes() + seen.high.numpy().tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all."""
        from safetensors.torch import save

        tensors = {f"{name}.{part}": values for name, seen in self.ranges.items() for part, values in seen._asdict().items()}
        with atomic(path) as file:
            file.write(save(tensors, {name: repr(getattr(self, name)) for name in _FOUND}))

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what ``save`` wrote. Raises OSError and SafetensorError as safetensors does."""
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            names = sorted({name.rpartition(".")[0] for name in file.keys()})  # noqa: SIM118 - not a dictionary
            ranges = {name: Range(file.get_tensor(f"{name}.low"), file.get_tensor(f"{name}.high")) for name in names}
            return cls(ranges, *(float(file.metadata()[name]) for name in _FOUND))


class _Watching(Maker):
    """Products in float32 that keep in ``ranges`` what their inputs were."""

    def __init__(self, ranges: dict[str, Range]) -> None:
        self._ranges = ranges

    def product(self, name: str, weight: Any, bias: Any) -> Product:
        import torch

        product = Linear(weight, bias)

        def compute(states: Any) -> Any:
            low, high = torch.aminmax(states, dim=0)
            if name in self._ranges:
                low, high = torch.minimum(low, self._ranges[name].low), torch.maximum(high, self._ranges[name].high)
            self._ranges[name] = Range(low.clone(), high.clone())
            return product(states)

        return compute


def calibrated(model: Any, tokenizer: Any, types: bool, longest: int) -> Calibration:
    """Ranges on half of the demo's topics, each with a passage that answers it and one that does not, in changing languages, and on inputs as long as the model takes (at
    most 512 tokens); the error and the speeds on the other half.
    """
    import torch

    encoder = _encoder(tokenizer, longest)
    pairs = demo_pairs()
    seen, tried = (_inputs(encoder, [pair for at, pair in enumerate(pairs) if at // 2 % 2 == half]) for half in (0, 1))
    seen += _inputs(encoder, [(query, " ".join([passage] * 20)) for query, passage in pairs[:: len(pairs) // _LONG_PAIRS]])
    ranges: dict[str, Range] = {}

    with torch.inference_mode():
        _scores(Engine(model, False, types, _Watching(ranges)).logits, seen)
        engines = [Engine(model, False, types), Engine(model, False, types, Integers(ranges)), *([Engine(model, True, types)] if cpu_has_bf16() else [])]
        exact, coarse = (_scores(engine.logits, tried) for engine in engines[:2])
        error, agreement = compared(coarse, exact)
        times: list[list[float]] = [[] for _ in engines]
        for _ in range(_ROUNDS):
            for taken, engine in zip(times, engines, strict=True):
                start = time.perf_counter()
                _scores(engine.logits, tried)
                taken.append(time.perf_counter() - start)
    kept = {name: Range(*(values.clone() for values in found)) for name, found in ranges.items()}
    plain, integers, *halves = (min(taken) for taken in times)
    return Calibration(kept, error, agreement, plain / integers, plain / halves[0] if halves else 1.0)


def compared(coarse: Any, exact: Any) -> tuple[float, float]:
    """``error`` and ``agreement`` of :class:`Calibration`, of scores [inputs]; an error that is not a number is infinite."""
    import torch

    error = (coarse - exact).std() / exact.std().clamp_min(1e-9)
    twos = torch.combinations(torch.arange(len(exact)))
    agreement = ((exact[twos[:, 0]] > exact[twos[:, 1]]) == (coarse[twos[:, 0]] > coarse[twos[:, 1]])).double().mean()
    return float(error.nan_to_num(torch.inf)), float(agreement)


def holds(error: float, agreement: float) -> bool:
    """Whether scores that differ so rank passages as the exact ones do."""
    return error <= TOLERANCE and agreement >= AGREEMENT


def calibration_of(fingerprint: str, make: Callable[[], Calibration]) -> Calibration:
    """The calibration of the checkpoint with this fingerprint on a machine of this kind, with as many threads as now: from the cache, or made and, where the cache can be
    written, kept there (``kept`` says so).
    """
    import torch

    arithmetic = f"{torch.backends.cpu.get_cpu_capability()} {largest_weight()} {cpu_has_bf16()} {torch.get_num_threads()}"
    machine = hashlib.sha256(f"{VERSION} {torch.__version__} {_processor()} {os.cpu_count()} {arithmetic}".encode()).hexdigest()
    try:
        path = cache_folder() / "int8" / f"{fingerprint[:24]}-{machine[:12]}.safetensors"
    except InputError:  # no home directory
        return make()
    if (found := _loaded(path)) is not None:
        return found
    with _one_by_one(path.parent):
        if (found := _loaded(path)) is not None:  # another process was sooner: all go by one
            return found
        made = make()
        with suppress(OSError, InputError):
            made.save(path)
            made.kept = True
    return made


@contextmanager
def _one_by_one(folder: Path) -> Iterator[None]:
    """Hold other processes off what is made for ``folder``, which is timed, too; makes the folder. Goes without where locks cannot be had, and after a while, since
    the process that holds it may have been stopped.
    """
    with ExitStack() as held:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(folder.with_suffix(".lock").open("ab"))
            until = time.monotonic() + _PATIENCE
            while time.monotonic() < until:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.1)
        yield


def bf16_holds(fingerprint: str, device: Any, tokenizer: Any, longest: int, logits: Callable[[bool], Callable[[list[Encoded]], Any]]) -> bool:
    """Whether the checkpoint with this fingerprint ranks the demo's pairs in bfloat16 as in float32; ``logits`` gives what computes those of inputs, in bfloat16 or not. Found out once
    for a checkpoint, a kind of device (a ``torch.device`` here) and a version of torch, and kept in the cache where that can be written: unlike int8's, the answer has no stopwatch in it.
    """
    import torch

    machine = hashlib.sha256(
        f"{VERSION} {torch.__version__} {torch.cuda.get_device_name(device) if device.type == 'cuda' else _processor()}".encode()
    ).hexdigest()
    name = f"{fingerprint[:24]}-{device.type}-{machine[:12]}.json"
    with suppress(OSError, InputError, ValueError, TypeError):  # not there, or what a full disk left
        return holds(*json.loads((cache_folder() / "bf16" / name).read_text()))
    inputs = _inputs(_encoder(tokenizer, longest), demo_pairs())
    with torch.inference_mode():
        found = compared(*(_scores(logits(bf16), inputs) for bf16 in (True, False)))
    with suppress(OSError, InputError):
        path = cache_folder() / "bf16" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            file.write(json.dumps(found).encode())
    return holds(*found)


def _loaded(path: Path) -> Calibration | None:
    from safetensors import SafetensorError

    with suppress(OSError, SafetensorError, KeyError, TypeError, ValueError):  # not there, or what a full disk left
        found = Calibration.load(path)
        found.kept = True
        return found
    return None


def _processor() -> str:
    with suppress(OSError):
        return next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return platform.processor()


def demo_pairs() -> list[tuple[str, str]]:
    """Two pairs for each topic of the demo collection: with a passage on its subject, and with another; both languages change from pair to pair."""
    from csrerank.collections.demo import COLLECTION

    langs = list(COLLECTION.languages)
    editions = [COLLECTION.edition(lang, "passages") for lang in langs]
    passages = list(zip(*(edition.documents for edition in editions), strict=True))
    pairs: list[tuple[str, str]] = []
    for at, topic in enumerate(editions[0].topics):
        own = [place for place, parallel in enumerate(passages) if parallel[0].doc_id.rpartition("-")[0] == topic.rpartition("-")[0]]
        query = editions[at % len(langs)].topics[topic]
        for step, place in enumerate((own[at % len(own)], (own[-1] + 1 + 37 * at) % len(passages))):
            pairs.append((query, passages[place][(3 * at + step + at // len(langs)) % len(langs)].text))
    return pairs


def _encoder(tokenizer: Any, longest: int) -> PairEncoder:
    return PairEncoder(tokenizer, min(longest, _LONG), max(1, min(64, longest // 4)))


def _inputs(encoder: PairEncoder, pairs: "Sequence[tuple[str, str]]") -> list[Encoded]:
    return encoder.encode([query for query, _ in pairs], [passage for _, passage in pairs])[0]


def _scores(logits: Callable[[list[Encoded]], Any], inputs: "Sequence[Encoded]") -> Any:
    """Scores in the order of the batches: float64 [inputs]."""
    import torch

    found = [logits([inputs[row] for row in rows]).double() for rows in batches([len(row.ids) for row in inputs], _BUDGET)]
    every = torch.cat(found).cpu()
    return every[:, -1] - (every[:, 0] if every.shape[1] == 2 else 0)
