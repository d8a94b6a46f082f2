"""The cascade: what it keeps, what it promises, that the whole model scores what it keeps, and that a job goes on with what it learnt."""

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from csrerank.errors import InputError
from csrerank.models.cascade import FIT, TESTED, Pruner, fitted, topics_needed

Topics = list[tuple[str, list[str]]]


def texts() -> tuple[dict[str, str], dict[str, str]]:
    """The demo's topics in three languages, and its documents in two."""
    from csrerank.collections.demo import COLLECTION

    queries = {f"{lang}-{topic}": text for lang in COLLECTION.languages[:3] for topic, text in COLLECTION.edition(lang, "passages").topics.items()}
    docs = {f"{lang}-{doc.doc_id}": doc.text for lang in COLLECTION.languages[:2] for doc in COLLECTION.edition(lang, "passages").documents}
    return queries, docs


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy of six layers, so that there are some to leave out."""
    from toy import build_checkpoint

    return build_checkpoint(tmp_path_factory.mktemp("deep"), layers=6)


@pytest.fixture(scope="module")
def model(deep: Path) -> Any:
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    return Reranker.load(deep, Settings(96, 30, precision="fp32"), "cpu")


@pytest.fixture(scope="module")
def topics() -> Topics:
    queries, docs = texts()
    passages = list(docs.values())
    return [(query, [passages[(place * 5 + step) % len(passages)] for step in range(25)]) for place, query in enumerate(queries.values())]


def scores(model: Any, topics: Topics, pruner: Pruner | None = None) -> np.ndarray:
    """Scores by topic: [topics, passages]."""
    model.pruner = pruner
    try:
        queries = [query for query, passages in topics for _ in passages]
        places = [place for place, (_, passages) in enumerate(topics) for _ in passages]
        return model.score_pairs(queries, [passage for _, own in topics for passage in own], None, places).reshape(len(topics), -1)
    finally:
        model.pruner = None


def test_what_is_kept_has_the_whole_models_scores_and_the_others_stand_below(model: Any, topics: Topics) -> None:
    count = topics_needed(0.8)
    pruner = fitted(model, topics[:count], 3, 0.8)
    assert 3 / 25 <= pruner.kept < 1 and pruner.lost < 0.4, pruner
    others = topics[count : count + 60]
    whole, pruned = scores(model, others), scores(model, others, pruner)
    lost = []
    for exact, mine in zip(whole, pruned, strict=True):
        kept = np.abs(exact - mine) <= 1e-4
        assert kept.sum() >= 3
        if not kept.all():
            assert mine[~kept].max() < mine[kept].min()
        best = np.argsort(-exact, kind="stable")[:3]
        lost.append(1 - kept[best].mean())
    assert np.mean(lost) < 0.2 + 3 * np.std(lost) / np.sqrt(len(lost))  # on topics that nothing was learnt from


def test_more_confidence_keeps_more(model: Any, topics: Topics) -> None:
    loose, strict = (fitted(model, topics[: topics_needed(confidence)], 3, confidence) for confidence in (0.5, 0.9))
    assert loose.margin < strict.margin and loose.kept < strict.kept


class Known:
    """Scores and states that are given: the prediction is off by a known noise."""

    depth = 3

    def __init__(self, noise: float, topics: int, seed: int = 1) -> None:
        self.draw = np.random.default_rng(seed)
        self.noise = noise
        self.states = self.draw.normal(size=(topics, 10, 4)).astype(np.float32)
        self.at = -1

    def score(self, *_: object) -> np.ndarray:
        self.at += 1
        own = self.noise * self.draw.normal(size=10) + self.noise * self.draw.normal()  # what a topic's passages share is no matter
        return (self.states[self.at] @ np.array([1, 2, 3, 4]) + own).astype(np.float32)

    def means(self, *_: object) -> np.ndarray:
        return self.states[self.at]


def known(noise: float, confidence: float, seed: int = 1, k: int = 3) -> Pruner:
    count = topics_needed(confidence)
    return fitted(Known(noise, count, seed), [("q", ["p"] * 10)] * count, k, confidence)  # type: ignore[arg-type]


def test_the_stated_share_is_kept_on_new_topics() -> None:
    """Over many samples and one new topic each, the mean loss is what was stated or less, and not far less."""
    for noise in (1.0, 4.0):
        lost = []
        for seed in range(300):
            pruner, fresh = known(noise, 0.9, seed), Known(noise, 20, 1000 + seed)
            for _ in range(20):
                truth = fresh.score()
                guess = pruner.predictor("cpu")(_tensor(fresh.means())).numpy()[:, 0]
                kept = np.argsort(-guess, kind="stable")[: pruner.count(np.sort(guess)[::-1])]
                lost.append(1 - len(np.intersect1d(kept, np.argsort(-truth, kind="stable")[:3])) / 3)
        assert 0.02 < np.mean(lost) < 0.105, (noise, np.mean(lost))


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)


def test_by_hand() -> None:
    assert known(0.0, 0.9).margin < 0.2 < known(3.0, 0.9).margin
    pruner = Pruner(1, 2, 0.5, 1.0, 0.0, np.array([1, 0, 0, 0, 5], np.float32))
    assert pruner.predictor("cpu")(_tensor(np.eye(4, dtype=np.float32)))[:, 0].tolist() == [6, 5, 5, 5]
    assert pruner.count(np.array([9, 8, 7.5, 7.4])) == 3 and pruner.count(np.array([9.0])) == 1
    again = Pruner.unpacked(pruner.packed())
    assert again[:-1] == pruner[:-1] and np.array_equal(again.weights, pruner.weights)
    assert topics_needed(0.9) == FIT + TESTED + 20 and topics_needed(0.99) == FIT + TESTED + 200


def test_what_cannot_be_learnt_from_is_said(model: Any, toy_model: Path, topics: Topics) -> None:
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    for confidence in (0.0, 1.0):
        with pytest.raises(InputError, match="give a share between 0 and 1"):
            fitted(model, topics, 5, confidence)
    needed = topics_needed(0.8)
    for count, k in ((needed - 1, 5), (needed, 25), (needed, 0)):
        with pytest.raises(InputError, match=f"--cascade {k}: learns from {needed} topics with more than {k} candidates each"):
            fitted(model, topics[:count], k, 0.8)
    with pytest.raises(InputError, match="four layers or more"):
        fitted(Reranker.load(toy_model, Settings(96, 30, precision="fp32"), "cpu"), topics[:needed], 5, 0.8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy topics with 25 candidates each and ten with few, beside their texts."""
    queries, docs = texts()
    folder, ids = tmp_path_factory.mktemp("run"), list(docs)
    for name, part in (("topics.tsv", queries), ("docs.tsv", docs)):
        (folder / name).write_text("".join(f"{key}\t{' '.join(text.split())}\n" for key, text in part.items()))
    with (folder / "first.trec").open("w") as file:
        for place, query in enumerate(list(queries)[:80]):
            for rank in range(3 if place % 8 == 0 else 25):
                file.write(f"{query} Q0 {ids[(place * 7 + rank) % len(ids)]} {rank + 1} {90 - rank} bm25\n")
    return folder / "first.trec"


def command(run: Path, model: Path, output: str, *more: object) -> list[object]:
    options = ["--max-length", 96, "--query-tokens", 30, "--precision", "fp32", "--threads", 1, "--output", output]
    return ["rerank", "--run", run, "--queries", run.with_name("topics.tsv"), "--docs", run.with_name("docs.tsv"), "--model", model, *options, *more]


def test_the_command(run: Path, deep: Path, tmp_path: Path, cli: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    from csrerank.cli import run_command

    done = cli(*command(run, deep, "out.trec", "--cascade", 4, "--confidence", 0.8), cwd=tmp_path)
    assert done.returncode == 0 and f"cascade: on {TESTED} topics " in done.stderr and done.stderr.count("\n") == 1, done.stderr
    sidecar = yaml.safe_load((tmp_path / "out.trec.ir-metadata.yml").read_text())
    described = sidecar["method"]["retrieval"][1]["cascade"]
    assert (described["k"], described["layers"]) == (4, 1) and 0 < described["kept"] <= 1 and 0 <= described["lost"] < 1
    for more, said in (
        (["--confidence", 0.9], "--confidence belongs to --cascade"),
        (["--cascade", 5, "--window", 20], "--cascade does not go with --window"),
        (["--cascade", 5, "--precision", "mixed"], "--cascade does not go with --precision mixed"),
        (["--cascade", 5, "--precision", "int8"], "--cascade does not go with --precision int8"),
        (["--cascade", 5, "--confidence", 2], "give a share between 0 and 1"),
        (["--cascade", 5, "--confidence", 0.99], "learns from 250 topics with more than 5 candidates each"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_command([str(word) for word in command(run, deep, str(tmp_path / "bad.trec"), *more)])
        error = capfd.readouterr().err
        assert ended.value.code == 2 and said in error and error.count("\n") == 1, error
        assert not (tmp_path / "bad.trec").exists() and not (tmp_path / "bad.trec.journal").exists()


@pytest.mark.slow
def test_the_processes_of_a_launch_prune_by_what_the_first_learnt(run: Path, deep: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    from test_accelerate import launch

    options = ["--cascade", 4, "--confidence", 0.8, "--device", "cpu"]
    alone = cli(*command(run, deep, "one.trec", *options), cwd=tmp_path)
    together = launch([str(word) for word in command(run, deep, "two.trec", *options)], tmp_path)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    assert (tmp_path / "two.trec").read_bytes() == (tmp_path / "one.trec").read_bytes()
    assert alone.stderr.strip().replace("one.trec", "two.trec") in together.stderr.splitlines()


class Stop(BaseException):
    """Ends a job as a kill would, as far as its files go."""


@pytest.fixture
def job(run: Path, deep: Path, tmp_path: Path) -> Callable[..., Any]:
    """Re-ranks the run with the deep model in small windows; ``job.model`` is that model."""
    from csrerank import rerank
    from csrerank.collections.texts import FileDocuments, file_topics
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model = Reranker.load(deep, Settings(96, 30, precision="fp32"), "cpu")

    def start(output: str, window: int = 200, **options: Any) -> rerank.Report:
        topics, documents = file_topics(run.with_name("topics.tsv")), FileDocuments(run.with_name("docs.tsv"), tmp_path)
        return rerank.rerank_run(run, tmp_path / output, topics, documents, model, window=window, quiet=True, **options)

    start.model = model  # type: ignore[attr-defined]
    return start


def test_a_job_stopped_while_it_learns_scores_no_topic_again(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank import pruning
    from csrerank.windows import Work

    asked: list[tuple[str, ...]] = []
    score = pruning.score_window

    def stopping(model: Any, work: Work) -> Any:
        if len(asked) == 7:
            raise Stop
        return noting(model, work)

    def noting(model: Any, work: Work) -> Any:
        asked.append((work.queries[0], *work.passages))
        return score(model, work)

    with monkeypatch.context() as patches:
        patches.setattr(pruning, "score_window", stopping)
        with pytest.raises(Stop):
            job("out.trec", cascade=(4, 0.8))
    with monkeypatch.context() as patches:
        patches.setattr(pruning, "score_window", noting)
        job("out.trec", cascade=(4, 0.8))
    once, asked = asked, []
    with monkeypatch.context() as patches:
        patches.setattr(pruning, "score_window", noting)
        job("whole.trec", cascade=(4, 0.8))
    assert len(asked) > 7 and once == asked
    assert (tmp_path / "out.trec").read_bytes() == (tmp_path / "whole.trec").read_bytes()


def test_topics_that_were_learnt_from_are_not_scored_again(job: Any, tmp_path: Path) -> None:
    """They keep the whole model's scores of all of their candidates, and the report counts what was cut in them."""
    from csrerank.trec import read_run
    from csrerank.windows import here

    sent: list[int] = []

    def noting() -> Any:
        engine = here(job.model)
        return lambda work, advance: engine((sent.append(len(one.queries)) or one for one in work), advance)  # type: ignore[func-returns-value]

    report, plain = job("out.trec", cascade=(4, 0.8), engine=noting), job("plain.trec")
    runs = [{ranking.topic: ranking for ranking in read_run(tmp_path / name)} for name in ("out.trec", "plain.trec")]
    for topic in learnt(runs[0]):
        whole = runs[1][topic]
        np.testing.assert_allclose(
            [dict(zip(whole.docs, whole.scores, strict=True))[doc] for doc in runs[0][topic].docs], runs[0][topic].scores, rtol=0, atol=1e-4
        )
    assert sum(sent) == report.pairs - sum(len(runs[0][topic].docs) for topic in learnt(runs[0]))
    assert report.passages_cut == plain.passages_cut > 0


def test_what_a_model_pruned_by_before_is_forgotten(job: Any, tmp_path: Path) -> None:
    for name, options in (("plain", {}), ("cascade", {"cascade": (4, 0.8)})):
        job(f"{name}.trec", **options)
        job.model.pruner = Pruner(1, 1, 0.0, 1.0, 0.0, np.zeros(job.model.model.config.hidden_size + 1, np.float32))
        job(f"{name}-again.trec", **options)
        assert (tmp_path / f"{name}-again.trec").read_bytes() == (tmp_path / f"{name}.trec").read_bytes()


def learnt(run: dict[str, Any]) -> list[str]:
    """The topics that a job for the top 4 at .8 learns from: the first by a hash of those with more candidates."""
    return sorted((topic for topic in run if len(run[topic].docs) > 4), key=lambda topic: hashlib.sha256(topic.encode()).digest())[: topics_needed(0.8)]


@pytest.mark.parametrize(("stop", "window"), [(1, 200), (4, 200), (4, 25)])
def test_a_stopped_job_goes_on_with_what_it_learnt(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, window: int) -> None:
    """Stopped at its first window too, when its journal has no window of the run; and where a window is a topic, so that it was learnt from or not."""
    from csrerank import pruning, windows
    from csrerank.trec import read_run

    whole = job("whole.trec", window, cascade=(4, 0.8))
    calls = 0

    def stopping(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Stop
        return score(*arguments)

    score = windows.score_window
    with monkeypatch.context() as patches:
        patches.setattr(windows, "score_window", stopping)
        with pytest.raises(Stop):
            job("out.trec", window, cascade=(4, 0.8))
    assert job.model.pruner is None and (tmp_path / "out.trec.journal").exists()
    with pytest.raises(InputError, match="left by a job with another cascade"):
        job("out.trec", window)
    with monkeypatch.context() as patches:
        patches.setattr(pruning, "fitted", lambda *_: pytest.fail("it has learnt that already"))
        report = job("out.trec", window, cascade=(4, 0.8))
    result = {ranking.topic: ranking for ranking in read_run(tmp_path / "out.trec")}
    known = sum(len(result[topic].docs) for topic in learnt(result))
    assert (report.resumed == known if stop == 1 else report.resumed > known) and report.cascade == whole.cascade
    assert (tmp_path / "out.trec").read_bytes() == (tmp_path / "whole.trec").read_bytes()
    plain = job("plain.trec", window)
    assert plain.cascade is None and (tmp_path / "plain.trec").read_bytes() != (tmp_path / "whole.trec").read_bytes()


@pytest.mark.slow
def test_ray_prunes_as_one_process_does(run: Path, deep: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    cascade = ["--cascade", 4, "--confidence", 0.8]
    alone = cli(*command(run, deep, "alone.trec", *cascade), cwd=tmp_path)
    shared = cli(*command(run, deep, "ray.trec", *cascade, "--engine", "ray", "--workers", 1), cwd=tmp_path)
    assert (alone.returncode, shared.returncode) == (0, 0), shared.stderr
    assert (tmp_path / "ray.trec").read_bytes() == (tmp_path / "alone.trec").read_bytes()
