"""One re-ranker for rerank_throughput.py, in a process and an environment of its own: ``python throughput_worker.py SYSTEM MODEL THREADS DEVICE``.

Says ``{"ready": true}`` once the model is loaded. Reads requests as lines of JSON and answers each with one: ``{"pairs": [[query, [passages]]...], "batch": N}`` is scored, and ``seconds``, ``scores`` and more come back.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Topics = Sequence[tuple[str, list[str]]]
Scores = list[float]


def watched(owner: Any, name: str, spent: list[float]) -> None:
    """Have a method's time added up."""
    method = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            spent[0] += time.perf_counter() - start

    setattr(owner, name, timed)


def crossencoder(model: str, kind: str, threads: int, device: str, spent: list[float]) -> Callable[[Topics, int], Scores]:
    """sentence-transformers' CrossEncoder, by its own documentation's way to each back end."""
    import torch
    from sentence_transformers import CrossEncoder

    if kind in ("onnx", "onnx-int8"):
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = threads
        options = {"provider": "CPUExecutionProvider", "session_options": session} | ({"file_name": "onnx/model_int8.onnx"} if kind == "onnx-int8" else {})
        ranker = CrossEncoder(model, backend="onnx", model_kwargs=options)
    else:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
        ranker = CrossEncoder(model, model_kwargs={"dtype": dtype}, device=device)
    watched(type(ranker.tokenizer), "__call__", spent)

    def score(topics: Topics, batch: int) -> Scores:
        pairs = [(query, passage) for query, passages in topics for passage in passages]
        return [float(value) for value in ranker.predict(pairs, batch_size=batch, activation_fn=torch.nn.Identity(), show_progress_bar=False)]

    return score


def rerankers(model: str, device: str, spent: list[float]) -> Callable[[Topics, int], Scores]:
    """The library rerankers, which batches within a topic."""
    from rerankers import Reranker

    ranker = Reranker(model, model_type="cross-encoder", device=device, dtype="float32", verbose=0)
    watched(type(ranker.tokenizer), "__call__", spent)

    def score(topics: Topics, batch: int) -> Scores:
        scores: Scores = []
        for query, passages in topics:
            found = ranker.rank(query=query, docs=passages, doc_ids=list(range(len(passages))), batch_size=batch)
            by_doc = {result.document.doc_id: result.score for result in found.results}
            scores += [float(by_doc[place]) for place in range(len(passages))]
        return scores

    return score


def ours(model: str, precision: str, told: dict[str, Any], device: str, spent: list[float]) -> Callable[[Topics, int], Scores]:
    """csrerank, as its command has it: windows of whole topics, the next one tokenised while one is computed, and nothing known beforehand."""
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings
    from csrerank.windows import WINDOW, Pair, Work, here, windows

    ranker = Reranker.load(model, Settings(precision=precision), device)
    watched(ranker.encoder, "encode", spent)

    def score(topics: Topics, batch: int) -> Scores:
        ranker.encoder.forget()
        if precision == "auto" and not told:  # decided at the first call, which is not counted
            ranker.take_fastest(sum(len(passages) for _, passages in topics) / len(topics))
        pairs = [Pair(place, query, passage) for place, (query, passages) in enumerate(topics) for passage in passages]
        work = (
            Work(number, [pair.place for pair in window], [pair.topic for pair in window], [pair.doc for pair in window])
            for number, window in enumerate(windows(pairs, WINDOW))
        )
        told.update(precision=ranker.settings.precision)
        return [float(value) for scored in here(ranker)(work, lambda count: None) for value in scored.scores]

    return score


def main() -> None:
    """Answer until the requests end."""
    import torch

    system, model, threads, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(threads)
    told: dict[str, Any] = {}
    spent = [0.0]
    library, _, kind = system.partition(":")
    if library == "csrerank":
        score = ours(model, kind, told, device, spent)
    elif library == "rerankers":
        score = rerankers(model, device, spent)
    else:
        score = crossencoder(model, kind, threads, device, spent)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        spent[0] = 0.0
        if device == "cpu":
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: other batch sizes were tried before
        else:
            torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode():
            start = time.perf_counter()
            scores = score(request["pairs"], request["batch"])
            seconds = time.perf_counter() - start
        peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) / 2**20
        peak = peak if device == "cpu" else torch.cuda.max_memory_allocated(device) / 2**30
        print(json.dumps({"seconds": seconds, "scores": scores, "peak": peak, "tokenising": spent[0], **told}), flush=True)


if __name__ == "__main__":
    main()
