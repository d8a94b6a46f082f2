"""The matrix' cells: each is a run with its metadata; what is missing, or whose inputs changed, is computed, the rest is kept."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.experiments.candidates import depth, qrels_hash, scored, texts_hash, versions_of
from csrerank.experiments.layout import CELL, KEPT, Cell, Layout, scores_of, short_hash, write_scores
from csrerank.experiments.scale import Scale
from csrerank.metadata import read_sidecar, sidecar, write_sidecar
from csrerank.rerank import SCORING
from csrerank.trec import TopicRun, read_run, write_run


def training_of(directory: Path) -> dict[str, Any]:
    """What a model was trained from, and on what, where it says so: the weights themselves may not be kept. Raises ``InputError`` for a damaged record."""
    path = directory / "training.json"
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); mend it, or delete it, and cells tell nothing of the training") from None
    if not isinstance(told, dict):
        raise InputError(f"{path}: not an object; mend it, or delete it, and cells tell nothing of the training")
    return {"training": {name: told[name] for name in ("made from", "steps", "kept step", "device", "precision") if name in told}}


def longest_input(directory: Path) -> int:
    """Tokens that a checkpoint takes, by its configuration and tokenizer; no weights are read. Raises ``InputError`` where these cannot be."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from csrerank.models.backbones import loading
    from csrerank.models.checkpoint import position_limit

    with loading(directory), torch.device("meta"):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        return position_limit(AutoModel.from_config(config), AutoTokenizer.from_pretrained(directory))


class Ranker:
    """Makes cells with one model; the model is loaded when the first missing cell asks for it.

    :param candidates: (track, first stage) -> the run to re-rank.
    """

    def __init__(
        self, directory: Path, candidates: Mapping[tuple[str, str], Path], layout: Layout, scale: Scale, quiet: bool = False, device: str | None = None
    ) -> None:
        self._directory, self._candidates, self._layout, self._scale, self._quiet, self._device = directory, candidates, layout, scale, quiet, device
        self._model: Any = None

    def missing(self, cell: Cell) -> bool:
        """Whether a cell has to be computed: it is not there, or was made from something else."""
        run = self._layout.run(cell)
        if not run.exists() or not scores_of(run).exists():
            return True
        return (read_sidecar(run) or {}).get(CELL) != self._inputs(cell)

    def make(self, cell: Cell) -> Path:
        """Compute a cell: its run with metadata, and its per-topic scores."""
        from csrerank.collections.texts import DatasetDocuments, dataset_topics
        from csrerank.models.reranker import Reranker
        from csrerank.models.settings import Settings
        from csrerank.rerank import rerank_run

        if self._model is None:
            self._model = Reranker.load(self._directory, Settings(self._max_length, precision=self._precision()), self._device)
        dataset = cell.system.dataset(cell.track)
        assert dataset is not None
        inputs, training = self._inputs(cell), training_of(self._directory)
        work = self._layout.unfinished(cell, short_hash(json.dumps(inputs, sort_keys=True), *self._place()))
        work.parent.mkdir(parents=True, exist_ok=True)
        candidates = self._candidates[cell.track.name, cell.stage]
        named = {"test collection": {"name": dataset, "ir_datasets": dataset}}
        rerank_run(
            candidates, work, dataset_topics(dataset), DatasetDocuments(dataset), self._model, k=depth(self._layout, self._scale), tag=cell.system.slug,
            data=named, first_stage={"run": candidates.name, "method": cell.stage}, model_name=self._directory.name, quiet=self._quiet,
        )  # fmt: skip
        self._keep(cell, work, inputs, training)
        return self._layout.run(cell)

    def _keep(self, cell: Cell, work: Path, inputs: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        run = self._layout.run(cell)
        run.parent.mkdir(parents=True, exist_ok=True)
        rankings = list(read_run(work))
        sidecar(run).unlink(missing_ok=True)  # a kill from here on leaves no cell, rather than a new run under the old inputs
        write_run(run, (TopicRun(ranking.topic, ranking.docs[:KEPT], ranking.scores[:KEPT]) for ranking in rankings), cell.system.slug)
        write_scores(scores_of(run), scored(rankings, cell.track.dataset, self._scale))
        # The sidecar comes last: it is what says that the cell is whole.
        told = {"kept": {"documents a topic": KEPT}, "ranked on": self._torch_device.type, **training, CELL: dict(inputs)}
        write_sidecar(run, {**(read_sidecar(work) or {}), **told})
        for path in (work, sidecar(work)):
            path.unlink()

    @cached_property
    def _model_hash(self) -> str:
        from csrerank.models.checkpoint import directory_hash

        return directory_hash(self._directory)

    @cached_property
    def _max_length(self) -> int:
        """The scale's longest input, or the model's where it takes fewer tokens."""
        return min(self._scale.max_length, longest_input(self._directory))

    @cached_property
    def _torch_device(self) -> Any:
        import torch

        return torch.device(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def _place(self) -> list[str]:
        """What a journal holds against another job beside the inputs: the machine's part."""
        import torch

        return [torch.cuda.get_device_name(self._torch_device) if self._torch_device.type == "cuda" else self._torch_device.type, str(torch.get_num_threads())]

    def _precision(self) -> str:
        from csrerank.models.precision import resolve_precision

        return resolve_precision("auto", self._torch_device)

    def _inputs(self, cell: Cell) -> dict[str, Any]:
        """What makes a cell's figures."""
        from csrerank.collections.texts import file_hash

        candidates, dataset = self._candidates[cell.track.name, cell.stage], cell.system.dataset(cell.track)
        assert dataset is not None
        candidates_hash = file_hash(candidates)
        return {
            "model sha256": self._model_hash,
            "candidates sha256": candidates_hash,
            "dataset": dataset,
            "texts sha256": texts_hash(dataset, candidates, candidates_hash),
            "qrels sha256": qrels_hash(cell.track.dataset, self._scale.topics),
            "k": depth(self._layout, self._scale),
            "scoring": SCORING,
            "max length": self._max_length,
            "precision": self._precision(),
            "versions": versions_of("csrerank", "torch", "transformers", "tokenizers"),
        }
