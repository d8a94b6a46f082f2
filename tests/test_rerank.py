"""The main job: what goes in, what comes out, in which order, and what is counted and written down."""

import gzip
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from csrerank.collections.texts import FileDocuments, Topics, file_topics
from csrerank.errors import InputError
from csrerank.journal import locked
from csrerank.metadata import write_sidecar
from csrerank.request import Sources, default_output, rerank
from csrerank.rerank import Report, rerank_run
from csrerank.trec import TopicRun, read_run, write_run
from csrerank.windows import Pair, Work, here, windows

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = "csrerank/demo/en-de"
SUBJECTS = ("whales", "coffee", "tea")
PASSAGES = [f"{subject}-{number}" for subject in SUBJECTS for number in range(1, 7)]
RANKINGS = [
    TopicRun(f"{subject}-q1", PASSAGES[place:] + PASSAGES[:place], [20.0 - rank for rank in range(len(PASSAGES))]) for place, subject in enumerate(SUBJECTS)
]


class Texts:
    """Documents out of a dictionary."""

    def __init__(self, texts: Mapping[str, str], fingerprint: str = "a dictionary") -> None:
        self.all, self.fingerprint = texts, fingerprint

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {doc: self.all[doc] for doc in ids if doc in self.all}


class Watched:
    """A re-ranker; ``before`` is called with the number of each call that scores."""

    def __init__(self, model: Any, before: Callable[[int], object]) -> None:
        self.model, self.before, self.calls = model, before, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def scores_of(self, *arguments: Any) -> np.ndarray:
        self.before(self.calls)
        self.calls += 1
        return self.model.scores_of(*arguments)


class Stop(BaseException):
    """Ends a job as a kill would, as far as its files go."""


def stop_at(call: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == call:
            raise Stop

    return before


@pytest.fixture
def load(toy_model: Path) -> Callable[..., Any]:
    """Load the toy checkpoint with settings that fit it."""
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    return lambda folder=toy_model, **settings: Reranker.load(folder, Settings(**{"max_length": 128, "query_tokens": 40, "precision": "fp32", **settings}))


@pytest.fixture
def model(load: Callable[..., Any]) -> Any:
    return load()


@pytest.fixture(scope="module")
def demo() -> tuple[dict[str, str], dict[str, str]]:
    """The texts of the topics and documents in RANKINGS."""
    from csrerank.collections.catalogue import load

    dataset = load(DEMO)
    wanted = {ranking.topic for ranking in RANKINGS}
    return {query.query_id: query.text for query in dataset.queries_iter() if query.query_id in wanted}, {
        doc.doc_id: doc.text for doc in dataset.docs_iter() if doc.doc_id in PASSAGES
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the first-stage run first.trec."""
    write_run(tmp_path / "first.trec", RANKINGS, "bm25")
    return tmp_path


def of_demo(place: Path, demo: tuple[dict[str, str], dict[str, str]], model: Any, output: str = "out.trec", **options: Any) -> tuple[Report, list[TopicRun]]:
    """Re-rank first.trec with the demo's texts; gives the report and the run."""
    report = rerank_run(place / "first.trec", place / output, Topics(demo[0], "topics"), Texts(demo[1]), model, **{"quiet": True, **options})
    return report, list(read_run(place / output))


def command(arguments: Sequence[object], toy_model: Path) -> tuple[object, ...]:
    return ("rerank", *arguments, "--model", toy_model, "--max-length", 128, "--query-tokens", 40)


# Order


def test_the_order_is_that_of_the_scores(place: Path, demo: Any, model: Any) -> None:
    report, run = of_demo(place, demo, model)
    assert [ranking.topic for ranking in run] == [ranking.topic for ranking in RANKINGS]
    for ranking in run:
        alone = dict(zip(PASSAGES, model.score(demo[0][ranking.topic], [demo[1][doc] for doc in PASSAGES]).tolist(), strict=True))
        assert sorted(ranking.docs) == sorted(PASSAGES)
        assert ranking.scores == pytest.approx([alone[doc] for doc in ranking.docs], abs=1e-4)  # batches differ, and with them the last bits
        assert ranking.scores == sorted(ranking.scores, reverse=True)
    assert len({tuple(ranking.docs) for ranking in run}) == 3 and (report.topics, report.pairs) == (3, 54)
    assert (place / "out.trec").read_text().startswith("whales-q1 Q0 ") and (place / "out.trec").read_text().endswith(
        " 18 " + str(np.float32(run[-1].scores[-1])) + " csrerank\n"
    )


def test_documents_below_k_keep_their_order_under_the_others(place: Path, demo: Any, model: Any) -> None:
    _, whole = of_demo(place, demo, model)
    report, run = of_demo(place, demo, model, "cut.trec", k=5)
    for before, full, ranking in zip(RANKINGS, whole, run, strict=True):
        assert ranking.docs == [doc for doc in full.docs if doc in before.docs[:5]] + before.docs[5:]
        assert all(above > below for above, below in zip(ranking.scores, ranking.scores[1:], strict=False))
    assert (report.pairs, report.below) == (15, 39) and "39 documents below --k kept their order" in report.summary("x")


def test_texts_that_are_alike_tie_and_keep_the_first_stage_order(tmp_path: Path, load: Callable[..., Any]) -> None:
    twins = [f"twin-{number}" for number in (3, 1, 4, 15, 9, 2, 6)]
    others = {f"other-{number}": "the whale " * number for number in range(1, 30)}
    texts = others | dict.fromkeys(twins, "a text of which there are seven, and not the longest")
    docs = [doc for at, doc in enumerate(others) for doc in ([doc, twins[at // 4]] if at % 4 == 0 and at // 4 < 7 else [doc])]
    assert [doc for doc in docs if doc in twins] == twins
    write_run(tmp_path / "first.trec", [TopicRun("1", docs, [-float(rank) for rank in range(len(docs))])])
    for batch_tokens in (64, 150, 8192):  # twins in batches of their own, in several, in one
        output = tmp_path / f"{batch_tokens}.trec"
        rerank_run(tmp_path / "first.trec", output, Topics({"1": "why do whales sleep"}, "t"), Texts(texts), load(batch_tokens=batch_tokens), quiet=True)
        (ranking,) = read_run(output)
        first = ranking.docs.index(twins[0])
        assert ranking.docs[first : first + 7] == twins
        assert all(above > below for above, below in zip(ranking.scores, ranking.scores[1:], strict=False))


def test_twins_in_different_batches_get_the_same_score(tmp_path: Path, load: Callable[..., Any]) -> None:
    texts = {f"d{number}": "the same words in every document" for number in range(40)}
    write_run(tmp_path / "first.trec", [TopicRun("1", list(texts), [-float(rank) for rank in range(40)])])
    counted = Watched(load(batch_tokens=200), lambda call: None)
    rerank_run(tmp_path / "first.trec", tmp_path / "out.trec", Topics({"1": "why"}, "t"), Texts(texts), counted, quiet=True)
    (ranking,) = read_run(tmp_path / "out.trec")
    steps = np.diff(np.array(ranking.scores, np.float32).view(np.int32))
    assert ranking.docs == list(texts) and set(np.abs(steps)) == {1}  # each the next number below the one before


def test_reranker_rerank_leaves_its_input_alone(model: Any) -> None:
    candidates = [{"id": "b", "body": "der Wal"}, {"id": "a", "body": "coffee"}, {"id": "c", "body": "der Wal"}]
    before = json.dumps(candidates)
    ranked = model.rerank("why do whales sleep", candidates, lambda candidate: candidate["body"])
    assert json.dumps(candidates) == before and all(
        found is given
        for found, given in zip(sorted((one for one, _ in ranked), key=lambda one: one["id"]), [candidates[1], candidates[0], candidates[2]], strict=True)
    )
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    order = [candidate["id"] for candidate, _ in ranked]
    assert order.index("b") < order.index("c"), "a tie keeps the order given"
    assert model.rerank("q", []) == []


# Input and output


def test_missing_texts_are_dropped_and_counted(place: Path, demo: Any, model: Any) -> None:
    topics = {topic: text for topic, text in demo[0].items() if topic != "tea-q1"}
    documents = {doc: text for doc, text in demo[1].items() if doc not in ("coffee-2", "whales-1")}
    with pytest.raises(InputError, match="first.trec: topic 'tea-q1' has no text"):
        of_demo(place, (topics, documents), model)
    with pytest.raises(InputError, match=r"first.trec: document 'coffee-2' \(and 1 more\) is not in the collection"):
        of_demo(place, (demo[0], documents), model)
    assert sorted(os.listdir(place)) == ["first.trec"]
    report, run = of_demo(place, (topics, documents), model, missing="skip")
    assert [ranking.topic for ranking in run] == ["whales-q1", "coffee-q1"]
    assert all(sorted(ranking.docs) == sorted(documents) for ranking in run)
    assert (report.topics, report.pairs, report.skipped, report.skipped_topics) == (2, 32, 18 + 4, 1)
    assert "22 documents without a text dropped" in report.summary("x")


def test_the_dataset_is_taken_from_the_sidecar_and_said(place: Path, toy_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    from csrerank.cli import run_command
    from csrerank.models.precision import resolve_precision

    auto = resolve_precision("auto", torch.device("cpu"))  # integers do not pay for a model so small
    write_sidecar(place / "first.trec", {"data": {"test collection": {"name": "demo", "ir_datasets": DEMO}}})
    for quiet in ([], ["--quiet"]):
        with pytest.raises(SystemExit) as ended:
            run_command([str(word) for word in command(["--run", place / "first.trec", *quiet], toy_model)])
        out, err = capfd.readouterr()
        assert (ended.value.code or 0, out) == (0, "")
        said = [] if quiet else [f"dataset {DEMO} (from the run's metadata)", f"{place}/first.reranked.trec: 3 topics, 54 pairs re-ranked in {auto}"]
        assert [line.split(";")[0] for line in err.splitlines()] == said
    sidecar = yaml.safe_load((place / "first.reranked.trec.ir-metadata.yml").read_text())
    assert sidecar["data"]["test collection"]["ir_datasets"] == DEMO


def test_the_same_bytes_whatever_the_hash_seed_and_from_a_pipe(place: Path, toy_model: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    done = cli(*command(["--run", "first.trec", "--output", "file.trec", "--dataset", DEMO], toy_model), cwd=place, timeout=600)
    assert (done.returncode, done.stdout) == (0, "") and done.stderr.count("\n") == 1, done.stderr
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    piped = cli(*command(["--run", "-", "--dataset", DEMO], toy_model), input=(place / "first.trec").read_text(), cwd=place, timeout=600)
    assert piped.returncode == 0 and piped.stdout == (place / "file.trec").read_text()
    assert piped.stderr == done.stderr.replace("file.trec", "-")
    assert sorted(os.listdir(place)) == ["file.trec", "file.trec.ir-metadata.yml", "first.trec"]


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are Unix's")
def test_named_pipes(place: Path, demo: Any, model: Any) -> None:
    of_demo(place, demo, model, "expected.trec")
    found: list[bytes] = []
    for name in ("in", "out"):
        os.mkfifo(place / name)
    ends = [
        threading.Thread(target=lambda: (place / "in").write_bytes((place / "first.trec").read_bytes())),
        threading.Thread(target=lambda: found.append((place / "out").read_bytes())),
    ]
    for end in ends:
        end.start()
    rerank_run(place / "in", place / "out", Topics(demo[0], "topics"), Texts(demo[1]), model, quiet=True)
    for end in ends:
        end.join(60)
    assert found == [(place / "expected.trec").read_bytes()]
    assert sorted(os.listdir(place)) == ["expected.trec", "expected.trec.ir-metadata.yml", "first.trec", "in", "out"]


def test_gzip_in_and_out(place: Path, demo: Any, model: Any) -> None:
    of_demo(place, demo, model)
    (place / "first.gz").write_bytes(gzip.compress((place / "first.trec").read_bytes()))
    rerank_run(place / "first.gz", place / "out.gz", Topics(demo[0], "topics"), Texts(demo[1]), model, quiet=True)
    assert gzip.decompress((place / "out.gz").read_bytes()) == (place / "out.trec").read_bytes()
    assert (place / "out.gz.ir-metadata.yml").exists()


@pytest.mark.parametrize(
    ("run", "output"), [("a/bm25.trec", "a/bm25.reranked.trec"), ("bm25.run.txt.gz", "bm25.run.reranked.txt.gz"), ("bm25", "bm25.reranked"), ("-", "-")]
)
def test_where_the_output_goes_when_nothing_is_said(run: str, output: str) -> None:
    assert default_output(run) == output


def test_tsv_and_jsonl_are_equal(place: Path, demo: Any, model: Any) -> None:
    runs = []
    for number, (write, pack) in enumerate([(tsv, bytes), (jsonl, bytes), (tsv, gzip.compress), (titled, bytes)]):
        topics, documents = place / f"topics-{number}", place / f"docs-{number}"
        topics.write_bytes(pack(write(demo[0])))
        documents.write_bytes(pack(write(demo[1])))
        rerank_run(place / "first.trec", place / "out.trec", file_topics(topics), FileDocuments(documents, place / "a cache #1?"), model, quiet=True)
        runs.append((place / "out.trec").read_bytes())
    assert len(set(runs)) == 1


def tsv(texts: Mapping[str, str]) -> bytes:
    return "".join(f"{name}\t{text}\n" for name, text in texts.items()).encode()


def jsonl(texts: Mapping[str, str]) -> bytes:
    return "".join(json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in texts.items()).encode()


def titled(texts: Mapping[str, str]) -> bytes:
    """The first word as a title, and other names for the fields."""
    return "\n".join(
        json.dumps({"docid": name, "title": text.partition(" ")[0], "contents": text.partition(" ")[2]}, ensure_ascii=False) for name, text in texts.items()
    ).encode()


def test_the_index_of_documents_is_made_once_and_mended(tmp_path: Path) -> None:
    (tmp_path / "docs.tsv").write_text("007\tJames\nNA\t\n")
    FileDocuments(tmp_path / "docs.tsv", tmp_path)
    (store,) = (tmp_path / "documents").iterdir()
    made = store.stat().st_mtime_ns
    store.with_suffix(".tmp").write_bytes(b"what a killed process left")
    documents = FileDocuments(tmp_path / "docs.tsv", tmp_path)
    assert documents.texts(["NA", "7", "007"]) == {"007": "James", "NA": ""} and store.stat().st_mtime_ns == made
    store.unlink()
    assert FileDocuments(tmp_path / "docs.tsv", tmp_path).texts(["007"]) == {"007": "James"}
    assert os.listdir(tmp_path / "documents") == [store.name]
    store.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot be read.*delete it"):
        FileDocuments(tmp_path / "docs.tsv", tmp_path).texts(["007"])


def test_a_full_disk_while_documents_are_indexed_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit of the size of files stands in for the disk's end."""
    (tmp_path / "docs.tsv").write_text("".join(f"d{number}\t{'a word ' * 200}\n" for number in range(200)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"documents: the index of the documents of .*docs.tsv cannot be written \(.*\); free some space, or set CSRERANK_CACHE"
        ):
            FileDocuments(tmp_path / "docs.tsv", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path / "documents") == []
    assert len(FileDocuments(tmp_path / "docs.tsv", tmp_path).texts(["d0", "d199"])) == 2


def test_the_command_in_the_sidecar_is_without_the_folder_that_it_was_given_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    from csrerank.metadata import describe

    monkeypatch.chdir(place)
    monkeypatch.setattr(
        "sys.argv", ["csrerank", "rerank", "--run", f"{place}/first.trec", f"--model={place}/my model", "--docs", f"/elsewhere{place}/docs.tsv"]
    )
    command = describe({}, {}, datetime.now(UTC), "mine")["implementation"]["executable"]["cmd"]
    assert command == f"csrerank rerank --run first.trec '--model=my model' --docs /elsewhere{place}/docs.tsv"


def test_the_sidecar(place: Path, demo: Any, model: Any) -> None:
    report, _ = of_demo(place, demo, model, tag="mine", k=7, model_name="toy", data={"test collection": {"ir_datasets": DEMO}})
    sidecar = yaml.safe_load((place / "out.trec.ir-metadata.yml").read_text())
    assert list(sidecar)[:8] == ["schema version", "tag", "actor", "platform", "implementation", "method", "data", "research goal"]
    first, second = sidecar["method"]["retrieval"]
    assert (first["name"], second["name"], second["model"], second["reranks"], second["max length"], second["precision"]) == (
        "first stage",
        "csrerank",
        "toy",
        7,
        128,
        "fp32",
    )
    assert second["model sha256"] == model.fingerprint and len(model.fingerprint) == 64
    assert sidecar["method"]["counts"] | {"precision": "fp32", "cascade": None, "interpolated": None} == report._asdict() and sidecar["tag"] == "mine"
    assert sidecar["data"]["first stage"]["run"] == "first.trec" and sidecar["data"]["test collection"] == {"ir_datasets": DEMO}
    assert {"csrerank", "torch", "transformers"} <= set(sidecar["platform"]["software"]["libraries"])
    assert (place / "out.trec").read_text().splitlines()[0].endswith(" mine")


def test_a_replaced_output_keeps_its_permissions_and_a_link_stays(place: Path, demo: Any, model: Any) -> None:
    (place / "real").mkdir()
    (place / "real" / "old.trec").write_text("old")
    (place / "real" / "old.trec").chmod(0o640)
    (place / "out.trec").symlink_to("real/old.trec")
    of_demo(place, demo, model)
    assert (place / "out.trec").is_symlink() and (place / "real" / "old.trec").stat().st_mode & 0o777 == 0o640
    assert (place / "real" / "old.trec").read_text().count("\n") == 54


def test_jobs_that_write_one_file_by_two_names_share_a_journal(place: Path, demo: Any, model: Any) -> None:
    (place / "real").mkdir()
    (place / "real" / "old.trec").write_text("old")
    (place / "out.trec").symlink_to("real/old.trec")
    with locked(place / "real" / "old.trec.journal"), pytest.raises(InputError, match=r"real/old.trec.journal: "):
        of_demo(place, demo, model)
    assert (place / "real" / "old.trec").read_text() == "old"


# Scores


def by_hand(model: Any, query: str, passage: Sequence[int]) -> np.ndarray:
    """The logits of one query and these passage tokens, without a batch."""
    import torch

    encoded = model.encoder.assemble(model.tokenizer(query, add_special_tokens=False)["input_ids"], list(passage))
    with torch.inference_mode():
        return model.model(input_ids=torch.tensor([encoded.ids])).logits[0].numpy()


def test_windows_score_a_passage_by_its_best(place: Path, demo: Any, load: Callable[..., Any]) -> None:
    from csrerank.models.settings import Windows

    model = load(windows=Windows.checked(40, 15))
    _, run = of_demo(place, demo, model, k=6)
    query, seen = demo[0]["whales-q1"], 0
    for doc, score in zip(run[0].docs[:6], run[0].scores[:6], strict=True):
        ids = model.tokenizer(demo[1][doc], add_special_tokens=False)["input_ids"]
        spans = model.settings.windows.spans(len(ids))
        assert {at for start, end in spans for at in range(start, end)} == set(range(len(ids))) and len(spans) > 3
        scores = [by_hand(model, query, ids[start:end])[0] for start, end in spans]
        assert score == pytest.approx(max(scores), abs=1e-4)
        seen += int(np.argmax(scores)) > 0
    assert seen, "the first window was always the best: this shows nothing"
    assert of_demo(place, demo, model, k=6)[0].passages_cut == 0


def test_two_logits_count_as_log_odds(tmp_path: Path, load: Callable[..., Any]) -> None:
    from toy import build_checkpoint

    model = load(build_checkpoint(tmp_path, labels=2))
    texts = ["the whale", "coffee and sugar", "x"]
    expected = [(logits := by_hand(model, "why", model.tokenizer(text, add_special_tokens=False)["input_ids"]))[1] - logits[0] for text in texts]
    assert model.score("why", texts) == pytest.approx(expected, abs=1e-4) and len(set(expected)) == 3


def test_cut_texts_are_counted(place: Path, demo: Any, load: Callable[..., Any]) -> None:
    model = load(max_length=100, query_tokens=30)
    lengths = {text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for texts in demo for text in texts.values()}
    report, run = of_demo(place, demo, model)
    room = {topic: 100 - 4 - min(30, lengths[text]) for topic, text in demo[0].items()}
    assert report.queries_cut == sum(lengths[text] > 30 for text in demo[0].values()) > 0
    assert report.passages_cut == sum(lengths[demo[1][doc]] > room[topic] for topic in demo[0] for doc in PASSAGES) > 0
    assert f"{report.queries_cut} queries cut (--query-tokens)" in report.summary(
        "x"
    ) and f"{report.passages_cut} passages cut (--max-length" in report.summary("x")
    cut = {"1": model.tokenizer.decode(model.tokenizer(demo[0]["tea-q1"], add_special_tokens=False)["input_ids"][:30])}
    assert dict(zip(run[2].docs, run[2].scores, strict=True))["tea-3"] == pytest.approx(model.score(cut["1"], [demo[1]["tea-3"]])[0], abs=1e-4)


class Small:
    """Computes for a re-ranker where there is memory for so many tokens at once."""

    def __init__(self, model: Any, tokens: int, error: type[Exception]) -> None:
        self.tokens, self.error, self.refused, self.sizes = tokens, error, 0, list[int]()
        self.compute = model._computing("fp32")
        model._computing = lambda precision: self.logits

    def logits(self, rows: Any) -> Any:
        tokens = sum(len(row.ids) for row in rows)
        if tokens > self.tokens:
            self.refused += 1
            raise self.error("out of memory")
        self.sizes.append(tokens)
        return self.compute(rows)


def test_batches_halve_when_memory_runs_out(place: Path, demo: Any, load: Callable[..., Any]) -> None:
    import torch

    _, expected = of_demo(place, demo, load())
    model = load(batch_tokens=8192)
    small = Small(model, 1500, torch.OutOfMemoryError)
    report, run = of_demo(place, demo, model, "small.trec")
    assert small.refused == 3 and max(small.sizes) <= 1024, "8192, 4096 and 2048 are too many"
    assert [ranking.docs for ranking in run] == [ranking.docs for ranking in expected] and report.pairs == 54
    for ranking, other in zip(run, expected, strict=True):
        assert ranking.scores == pytest.approx(other.scores, abs=1e-4)
    assert report.budget_halvings == 3 and "the batch budget was halved 3 times" in report.summary("x")
    for tokens, error, raised in ((50, torch.OutOfMemoryError, InputError), (1500, RuntimeError, RuntimeError)):  # not even one pair fits; another failure
        model = load()
        Small(model, tokens, error)
        with pytest.raises(raised, match="memory"):
            of_demo(place, demo, model, "never.trec")
    assert not list(place.glob("*never*"))


# The journal


def test_a_journal_of_other_settings_is_refused_and_the_difference_named(
    place: Path, demo: Any, load: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from toy import build_checkpoint

    model = load()
    with pytest.raises(Stop):
        of_demo(place, demo, Watched(model, stop_at(2)), window=10)
    left = (place / "out.trec.journal").read_bytes()
    other_model = load(build_checkpoint(tmp_path_factory.mktemp("other"), layers=1))
    (place / "other.trec").write_text((place / "first.trec").read_text().replace(" bm25\n", " other\n"))
    others: dict[str, dict[str, Any]] = {
        "run": {"run": place / "other.trec"},
        "topics": {"topics": Topics(demo[0], "others")},
        "documents": {"documents": Texts(demo[1], "others")},
        "model": {"model": other_model},
        "k": {"k": 17},
        "missing": {"missing": "skip"},
        "window": {"window": 11},
        "max length": {"model": load(max_length=127)},
        "query tokens": {"model": load(query_tokens=39)},
        "texts": {"documents": Texts(demo[1] | {"tea-1": "was changed under the same name"})},
        "batch tokens": {"model": load(batch_tokens=8191)},
    }
    same: dict[str, Any] = {
        "run": place / "first.trec",
        "topics": Topics(demo[0], "topics"),
        "documents": Texts(demo[1]),
        "model": model,
        "window": 10,
        "quiet": True,
    }
    for name, other in others.items():
        with pytest.raises(InputError, match=rf"out.trec.journal: left by a job with another {name} \(.*, now .*\); go on with that, or delete"):
            rerank_run(output=place / "out.trec", **same | other)
        assert (place / "out.trec.journal").read_bytes() == left and not (place / "out.trec").exists()
    report = rerank_run(output=place / "out.trec", tag="another", **same)  # the tag does not make scores
    assert report.resumed == 36 and "36 of them taken from the journal" in report.summary("x") and not (place / "out.trec.journal").exists()


def test_re_ranking_needs_no_java(place: Path, toy_model: Path) -> None:
    code = "import atexit, os, sys; atexit.register(lambda: {'jnius', 'pyserini'} & set(sys.modules) and os._exit(9)); from csrerank.rerank import main; main(sys.argv[1:])"
    given = ["--run", place / "first.trec", "--dataset", DEMO, "--model", toy_model, "--output", place / "no-java.trec"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, given), "--max-length", "64", "--query-tokens", "16"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_next_window_is_tokenised_while_one_is_computed(model: Any) -> None:
    """By another thread, in the order of the windows; what comes out is what each would give alone."""
    begun, waited = [threading.Event() for _ in range(4)], []
    prepared, scores_of = model.prepared, model.scores_of

    def noted(queries: list[str], passages: list[str], places: list[int]) -> Any:
        begun[int(passages[0].split()[1])].set()
        return prepared(queries, passages, places)

    def waiting(*arguments: Any) -> Any:
        if len(waited) < 3:
            waited.append(begun[len(waited) + 1].wait(20))
        return scores_of(*arguments)

    model.prepared, model.scores_of = noted, waiting
    asked = [Work(number, [0, 0], ["why do whales sleep"] * 2, [f"whale {number}", f"mountain {number}"]) for number in range(4)]
    events: list[str] = []

    def work() -> Iterator[Work]:
        for window in asked:
            events.append(f"asked {window.number}")
            yield window
        raise InputError("the texts are gone")

    found: list[np.ndarray] = []
    with pytest.raises(InputError, match="the texts are gone"):
        for scored in here(model)(work(), lambda count: None):
            events.append(f"scored {scored.number}")
            found.append(scored.scores)
    assert events == ["asked 0", "asked 1", "scored 0", "asked 2", "scored 1", "asked 3", "scored 2"]
    assert waited == [True] * 3
    del model.prepared, model.scores_of
    for window, scores in zip(asked, found, strict=False):
        assert np.array_equal(scores, model.score_pairs(window.queries, window.passages))


def test_windows_are_of_whole_topics() -> None:
    pairs = [Pair(place, f"q{place}", f"d{rank}") for place, count in enumerate((3, 4, 9, 1, 1, 1, 5)) for rank in range(count)]
    cut = list(windows(pairs, 7))
    assert [[pair.place for pair in window] for window in cut] == [[0] * 3 + [1] * 4, [2] * 9, [3, 4, 5], [6] * 5]
    assert [pair for window in cut for pair in window] == pairs and list(windows([], 7)) == []


def test_a_second_job_on_the_same_output_is_refused(place: Path, demo: Any, model: Any) -> None:
    codes = []

    def compete(call: int) -> None:
        if call != 1:
            return
        pid = os.fork()
        if pid == 0:
            try:
                of_demo(place, demo, model, window=10)
            except InputError as error:
                os._exit(7 if "out.trec.journal: another job is writing this journal; wait for it" in str(error) else 1)
            finally:
                os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    of_demo(place, demo, model, "alone.trec", window=10)
    report, _ = of_demo(place, demo, Watched(model, compete), window=10)
    assert codes == [7] and report.resumed == 0
    assert (place / "out.trec").read_bytes() == (place / "alone.trec").read_bytes()
    assert not list(place.glob("*.journal"))


def test_a_job_that_got_nowhere_leaves_no_journal(place: Path, demo: Any, model: Any) -> None:
    with pytest.raises(Stop):
        of_demo(place, demo, Watched(model, stop_at(0)))
    assert os.listdir(place) == ["first.trec"]


def test_killed_before_the_sidecar_the_same_command_goes_on(place: Path, toy_model: Path, demo: Any, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --output: what lies there has no sidecar yet, but a journal, so it is csrerank's."""
    from csrerank.models.settings import Settings

    def go() -> Report:
        return rerank(
            str(place / "first.trec"),
            None,
            Sources(dataset=DEMO),
            str(toy_model),
            Settings(128, 40, precision="fp32"),
            say=lambda line: None,
            k=100,
            tag="csrerank",
            missing="error",
            quiet=True,
        )[1]

    with monkeypatch.context() as patches:
        patches.setattr("csrerank.rerank.describe", lambda *arguments: stop_at(0)(0))
        with pytest.raises(Stop):
            go()
    assert sorted(os.listdir(place)) == ["first.reranked.trec", "first.reranked.trec.journal", "first.trec"]
    assert go().resumed == 54
    assert sorted(os.listdir(place)) == ["first.reranked.trec", "first.reranked.trec.ir-metadata.yml", "first.trec"]
    (place / "first.reranked.trec.ir-metadata.yml").unlink()
    with pytest.raises(InputError, match="exists and is not csrerank's"):
        go()


def test_six_threads_make_one_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.collections import texts

    path = tmp_path / "docs.tsv"
    path.write_text("".join(f"d{number}\ttext {number}\n" for number in range(2000)))
    filled, fill = [], texts._fill
    monkeypatch.setattr(texts, "_fill", lambda work, source: (filled.append(work), fill(work, source))[1])
    found: list[dict[str, str]] = []
    begin = threading.Barrier(6)

    def read() -> None:
        begin.wait()
        found.append(dict(FileDocuments(path, tmp_path / "cache").texts(["d0", "d1999", "none"])))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"d0": "text 0", "d1999": "text 1999"}] * 6 and len(filled) == 1
    assert [file.suffix for file in (tmp_path / "cache" / "documents").iterdir()] == [".sqlite"]


# Interpolation with the first stage


def test_interpolated_by_hand() -> None:
    """Scores 3 2 1 are 1.2247, 0, -1.2247 standard deviations from their mean; 0 0 6 are -.7071, -.7071, 1.4142."""
    from csrerank.interpolation import interpolated

    found = interpolated([3.0, 2.0, 1.0], np.array([0, 0, 6], np.float32), 0.75)
    assert found.dtype == np.float32 and found == pytest.approx(
        [0.25 * 1.224745 - 0.75 * 0.707107, -0.75 * 0.707107, -0.25 * 1.224745 + 0.75 * 1.414214], abs=1e-5
    )
    moved = interpolated([103e8, 102e8, 101e8], np.array([5, 5, 11], np.float32) * 7, 0.75)
    assert moved == pytest.approx(found, abs=1e-5)  # neither scale counts


LADDER = [float(np.float32(7) - step * np.spacing(np.float32(7))) for step in range(3)]  # as a run's writer sets ties apart


@pytest.mark.parametrize("first", [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0], LADDER, [0.0, -1.4e-45, -2.8e-45]])
def test_a_first_stage_that_says_nothing(first: list[float]) -> None:
    from csrerank.interpolation import interpolated

    assert interpolated(first, np.array([1, 2, 3], np.float32), 0.5) == pytest.approx([-0.612372, 0, 0.612372], abs=1e-6)


def test_interpolated_at_the_edges() -> None:
    from csrerank.interpolation import interpolated

    assert np.isfinite(interpolated([1e300, -1e300, 0.0], np.array([3e38, -3e38, 0], np.float32), 0.5)).all()
    assert interpolated([4.0], np.array([1], np.float32), 0.5).tolist() == [0.0] and interpolated([], np.zeros(0, np.float32), 0.5).size == 0
    for first, second in np.random.default_rng(1).normal(size=(200, 2)):
        one, other = sorted((first, second))
        assert (
            np.ptp(interpolated([other, one], np.array([one, other], np.float32), 0.5)) == 0
        )  # against each other: a tie, which keeps the first stage's order


def test_a_run_is_interpolated_from_the_models_scores(place: Path, demo: Any, model: Any) -> None:
    """Each topic by its own first stage's scores; a document without a text in between shifts none."""
    from csrerank.interpolation import interpolated

    generator = np.random.default_rng(3)
    rankings = [ranking._replace(scores=sorted(generator.gumbel(size=len(PASSAGES)).tolist(), reverse=True)) for ranking in RANKINGS]
    rankings = [ranking._replace(docs=[*ranking.docs[:2], "no-text", *ranking.docs[2:-1]]) for ranking in rankings]
    write_run(place / "first.trec", rankings, "bm25")
    _, alone = of_demo(place, demo, model, "alone.trec", k=7, missing="skip")
    report, both = of_demo(place, demo, model, "both.trec", k=7, missing="skip", interpolate=0.4)
    for first, one, two in zip(read_run(place / "first.trec"), alone, both, strict=True):
        scores = dict(zip(one.docs, one.scores, strict=True))
        head = {doc: score for doc, score in zip(first.docs[:7], first.scores, strict=False) if doc != "no-text"}
        wanted = dict(zip(head, interpolated(list(head.values()), np.array([scores[doc] for doc in head], np.float32), 0.4).tolist(), strict=True))
        assert two.docs[:6] == sorted(head, key=lambda doc: -wanted[doc]) and two.scores[:6] == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-5)
        assert two.docs[6:] == first.docs[7:] and two.scores == sorted(two.scores, reverse=True)
    assert report.interpolated == 0.4 and "; ranked by 0.4 of the model's scores and 0.6 of the first stage's" in report.summary("both.trec")
    methods = [yaml.safe_load((place / f"{name}.trec.ir-metadata.yml").read_text())["method"]["retrieval"][1] for name in ("alone", "both")]
    assert methods[0]["interpolation"] is None and methods[1]["interpolation"]["weight"] == 0.4


def test_interpolation_goes_on_from_the_journal_of_another_weight(place: Path, demo: Any, model: Any) -> None:
    of_demo(place, demo, model, "whole.trec", window=10, interpolate=0.4)
    with pytest.raises(Stop):
        of_demo(place, demo, Watched(model, stop_at(2)), window=10, interpolate=0.7)
    report, _ = of_demo(place, demo, model, window=10, interpolate=0.4)
    assert report.resumed == 36 and (place / "out.trec").read_bytes() == (place / "whole.trec").read_bytes()


def test_interpolation_takes_exact_scores(place: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where auto would otherwise be mixed, whose scores below the best are of another kind."""
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings
    from csrerank.request import Sources, rerank

    asked: list[float] = []
    monkeypatch.setattr(Reranker, "take_fastest", lambda _, candidates: asked.append(candidates))
    monkeypatch.setattr("csrerank.rerank.MANY", 54)
    options = {"k": 100, "tag": "t", "missing": "error", "quiet": True}
    given = [str(place / "first.trec"), str(place / "out.trec"), Sources(DEMO, None, None, None, None, False), str(toy_model), Settings(128, 40)]
    _, report = rerank(*given, say=lambda _: None, interpolate=0.5, **options)
    assert report.precision in ("bf16", "fp32") and not asked
    topics = rerank(*given, say=lambda _: None, **options)[1].topics
    assert asked == [54 / topics]
    monkeypatch.setattr("csrerank.rerank.MANY", 55)  # more than there are: to find out would take longer than it saves
    assert rerank(*given, say=lambda _: None, **options)[1].precision in ("bf16", "fp32") and len(asked) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((1,), "--interpolate 1.0: the model's share of the sum lies between 0 and 1"),
        (("nan",), "--interpolate nan: the model's share"),
        ((0.5, "--cascade", 3), "--interpolate does not go with --cascade"),
        ((0.5, "--precision", "mixed"), "--interpolate does not go with --precision mixed"),
    ],
)
def test_interpolation_refused(
    place: Path, toy_model: Path, options: tuple[object, ...], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from csrerank.cli import run_command

    monkeypatch.setattr("csrerank.models.reranker.Reranker.load", lambda *_: pytest.fail("it could be said before that"))
    given = command(["--run", place / "first.trec", "--dataset", DEMO, "--output", place / "out.trec", "--interpolate", *options], toy_model)
    with pytest.raises(SystemExit) as ended:
        run_command([str(word) for word in given])
    error = capfd.readouterr().err
    assert ended.value.code == 2 and said in error and error.count("\n") == 1 and not (place / "out.trec").exists()
