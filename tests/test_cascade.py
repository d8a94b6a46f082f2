"""The cascade: what it keeps, what it promises, and that the whole model scores what it keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from csrerank.errors import InputError
from csrerank.models.cascade import FOLDS, TOPICS, Pruner, fitted

DEMO = "csrerank/demo/en-de"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A toy of six layers, so that the first two say something."""
    from toy import build_checkpoint

    from csrerank.models.reranker import Reranker, Settings

    return Reranker.load(build_checkpoint(tmp_path_factory.mktemp("deep"), layers=6), Settings(96, 30, precision="fp32"), "cpu")


@pytest.fixture(scope="module")
def topics() -> list[tuple[str, list[str]]]:
    from csrerank.collections.catalogue import load

    dataset = load(DEMO)
    docs = [doc.text for doc in dataset.docs_iter()]
    return [(query.text, [docs[(place * 5 + step) % len(docs)] for step in range(40)]) for place, query in enumerate(dataset.queries_iter())]


def scores(model: Any, topics: list[tuple[str, list[str]]], pruner: Pruner | None = None) -> np.ndarray:
    """Scores by topic: [topics, passages]."""
    model.pruner = pruner
    try:
        queries = [query for query, passages in topics for _ in passages]
        places = [place for place, (_, passages) in enumerate(topics) for _ in passages]
        return model.score_pairs(queries, [passage for _, own in topics for passage in own], None, places).reshape(len(topics), -1)
    finally:
        model.pruner = None


def test_what_is_kept_has_the_whole_models_scores_and_the_others_stand_below(model: Any, topics: list[tuple[str, list[str]]]) -> None:
    whole = scores(model, topics)
    pruner = fitted(model, topics[:30], 5, 0.95)
    assert 5 / 40 <= pruner.kept < 1 and pruner.recall >= 0.95, pruner
    pruned = scores(model, topics, pruner)
    asked = found = 0
    for exact, mine in zip(whole, pruned, strict=True):
        kept = np.abs(exact - mine) <= 1e-4
        assert kept.sum() >= 5
        if not kept.all():
            assert mine[~kept].max() < mine[kept].min()
        best = set(np.argsort(-exact, kind="stable")[:5])
        asked += 5
        found += len(best & set(np.flatnonzero(kept)))
    assert found / asked > 0.9  # topics of the sample, and others of the same kind


def test_more_confidence_keeps_more(model: Any, topics: list[tuple[str, list[str]]]) -> None:
    loose, strict = (fitted(model, topics[:30], 5, confidence) for confidence in (0.5, 0.99))
    assert loose.margin < strict.margin and loose.kept < strict.kept and loose.recall < strict.recall


def test_the_margin_by_hand() -> None:
    """Predictions that are the exact scores need no margin but rounding's; with noise, as much as the k-th best was underrated."""

    class Known:
        depth = 3

        def __init__(self, noise: float) -> None:
            generator = np.random.default_rng(1)
            self.truth = generator.normal(size=(TOPICS * 10, 4)).astype(np.float32)
            self.noise = noise * generator.normal(size=len(self.truth))

        def score_pairs(self, *_: object) -> np.ndarray:
            return (self.truth @ np.array([1, 2, 3, 4]) + self.noise).astype(np.float32)

        def means(self, *_: object) -> np.ndarray:
            return self.truth

    topics = [("q", ["p"] * 10)] * TOPICS
    clean, noisy = (fitted(Known(noise), topics, 3, 0.9) for noise in (0.0, 3.0))  # type: ignore[arg-type]
    assert clean.layers == 1 and noisy.margin > 3 * clean.margin
    pruner = Pruner(1, np.array([1.0, 0, 0, 0, 5.0]), 2, 0.5, 1, 1)
    assert pruner.predict(np.eye(4, dtype=np.float32)).tolist() == [6, 5, 5, 5]
    assert pruner.count(np.array([9, 8, 7.5, 7.4])) == 3 and pruner.count(np.array([9.0])) == 1 and FOLDS < TOPICS


@pytest.mark.parametrize(
    ("count", "k", "confidence", "said"),
    [
        (TOPICS - 1, 5, 0.9, f"--cascade 5: {TOPICS - 1} topics with more than 5 candidates, where {TOPICS} are needed"),
        (40, 40, 0.9, "0 topics with more than 40"),
        (40, 5, 1.0, "a share between 0 and 1"),
        (40, 0, 0.5, "give 1 or more"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(model: Any, topics: list[tuple[str, list[str]]], count: int, k: int, confidence: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fitted(model, topics[:count], k, confidence)


def test_a_model_without_layers_to_spare(toy_model: Path, topics: list[tuple[str, list[str]]]) -> None:
    from csrerank.models.reranker import Reranker, Settings

    with pytest.raises(InputError, match="four layers or more"):
        fitted(Reranker.load(toy_model, Settings(96, 30, precision="fp32"), "cpu"), topics, 5, 0.9)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    from csrerank.collections.catalogue import load

    dataset = load(DEMO)
    docs = [doc.doc_id for doc in dataset.docs_iter()]
    with (tmp_path / "first.trec").open("w") as file:
        for place, query in enumerate(dataset.queries_iter()):
            for rank in range(30):
                file.write(f"{query.query_id} Q0 {docs[(place * 7 + rank) % len(docs)]} {rank + 1} {90 - rank} bm25\n")
    return tmp_path / "first.trec"


def test_the_command(run: Path, model: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    command = ["rerank", "--run", run, "--dataset", DEMO, "--model", model.directory, "--max-length", 96, "--query-tokens", 30, "--precision", "fp32"]
    done = cli(*command, "--output", "out.trec", "--cascade", 5, cwd=tmp_path)
    assert done.returncode == 0 and "of a sample's candidates scored" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    sidecar = yaml.safe_load((tmp_path / "out.trec.ir-metadata.yml").read_text())
    described = sidecar["method"]["retrieval"][1]["cascade"]
    assert described["k"] == 5 and described["layers"] == 1 and len(described["weights"]) == 64 and 0 < described["kept"] <= 1
    for more, said in (
        (["--confidence", 0.9], "--confidence belongs to --cascade"),
        (["--cascade", 5, "--window", 20], "--cascade does not go with --window"),
        (["--cascade", 5, "--confidence", 2], "a share between 0 and 1"),
    ):
        bad = cli(*command, "--output", "bad.trec", *more, cwd=tmp_path)
        assert bad.returncode == 2 and said in bad.stderr and bad.stderr.count("\n") == 1, bad.stderr
        assert not (tmp_path / "bad.trec").exists() and not (tmp_path / "bad.trec.journal").exists()
