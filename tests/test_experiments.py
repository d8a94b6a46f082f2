"""Experiments: tracks, systems, the matrix that resumes cell by cell, and the paper's tables on figures computed by hand."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, needs_real_data

from csrerank.errors import InputError
from csrerank.experiments import reproduce, tables
from csrerank.experiments.matrix import Cell, Layout, cells, read_scores, trained
from csrerank.experiments.scale import SCALES
from csrerank.experiments.systems import SYSTEMS, systems
from csrerank.experiments.tracks import SMALL, Track, tracks
from csrerank.languages import SEEN, XQUAD
from csrerank.metadata import read_sidecar
from csrerank.training.job import Trained
from csrerank.trec import read_run

DEMO = [
    Track("en-en", "csrerank/demo/en-en", "MoIR seen"),
    Track("en-de", "csrerank/demo/en-de", "CLIR seen"),
    Track("de-en", "csrerank/demo/de-en", "CLIR seen"),
]


def test_the_papers_pairs() -> None:
    listed = {group: [track.name for track in tracks("mmarco") if track.group == group] for group in ("MoIR seen", "CLIR seen", "CLIR unseen")}
    assert listed["MoIR seen"] == [f"{lang}-{lang}" for lang in ("en", "de", "ru", "ar", "nl", "it")]
    assert listed["CLIR seen"] == ["en-de", "en-it", "en-ar", "en-ru", "de-it", "de-nl", "de-ru", "ar-it", "ar-ru"]
    assert listed["CLIR unseen"] == ["fr-en", "id-nl", "es-fr", "en-pt", "de-vi", "it-zh", "fr-pt", "id-vi", "pt-zh"]
    seen, unseen = set(SEEN), set(XQUAD) - set(SEEN)
    for track in tracks("xquad-r"):
        if track.group.startswith("MLIR"):
            continue
        query, document = track.name.split("-")
        assert {query, document} <= seen if track.group.endswith(" seen") else {query, document} & unseen, track
        assert (query == document) == track.group.startswith("MoIR")
    with pytest.raises(InputError, match="no such track in the paper's tables"):
        tracks("xquad-r", ["en-xx"])


def test_every_track_is_a_dataset() -> None:
    import ir_datasets

    import csrerank.collections

    csrerank.collections.register()
    for collection in ("mmarco", "xquad-r"):
        assert all(track.dataset in ir_datasets.registry for track in tracks(collection))
        assert set(SMALL[collection]) <= {track.name for track in tracks(collection)}


def test_systems_name_their_training_and_texts(tmp_path: Path) -> None:
    known = {track.name: track for track in tracks("xquad-r")}
    assert SYSTEMS["bl-cs"].model(known["en-de"]) == "bl-cs/en-de" and SYSTEMS["bl-cs"].model(known["en-en"]) is None
    assert SYSTEMS["ml-cs+tt"].model(known["en-de"]) == "ml-cs"
    assert SYSTEMS["ml-cs+tt"].dataset(known["en-de"]) == "csrerank/xquad-r/en-de/translate-test"
    assert SYSTEMS["ml-cs+tt"].dataset(known["en-en"]) is None  # nothing to translate
    assert SYSTEMS["ml-cs+tt"].dataset(known["es-th"]) is None  # no Thai dictionary that may be shipped
    half, one = systems(["ml-cs@.25", "bl-cs/en-de"], tmp_path)
    assert one.model(known["ar-ru"]) == "bl-cs/en-de"
    from csrerank.codeswitch import Policy

    policy = Policy.load(half.training.removeprefix("policy:"))
    assert {rule.probability for side in (policy.query, policy.passage) for rule in side.rules} == {0.25}
    plain = Policy.load("ml-cs")
    assert [rule._replace(probability=0.5) for rule in policy.query.rules] == list(plain.query.rules)
    (term_by_term,) = systems(["bl-cs/en-de@1"], tmp_path)
    one_way = Policy.load(term_by_term.training.removeprefix("policy:"))
    assert not one_way.query.rules and [rule.probability for rule in one_way.passage.rules] == [1.0] and one_way.passage.rules[0].languages == (("de", 1.0),)
    for wrong in ("ml-cs@2", "ml-cs@x", "nothing", "bl-cs/xx-yy"):
        with pytest.raises(InputError):
            systems([wrong], tmp_path)


def test_cells_are_those_that_a_system_defines() -> None:
    made = list(cells([SYSTEMS["bl-cs"], SYSTEMS["zero-shot"]], [1, 2], tracks("xquad-r", ["en-en", "en-de"]), ["dense"]))
    assert [(cell.system.name, cell.seed, cell.track.name) for cell in made] == [
        ("bl-cs", 1, "en-de"), ("bl-cs", 2, "en-de"), *(("zero-shot", seed, name) for seed in (1, 2) for name in ("en-en", "en-de")),
    ]  # fmt: skip


@pytest.fixture
def demo_matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_model: Path) -> Any:
    """A matrix over the demo collection whose models are the toy checkpoint, each seed with weights of its own."""
    monkeypatch.setattr(reproduce, "tracks_named", lambda collection, names: [track for track in DEMO if names is None or track.name in names])
    monkeypatch.setitem(SMALL, "xquad-r", [track.name for track in DEMO])
    asked: list[tuple[str, int]] = []

    def train(dataset: str, base: Path, directory: Path, settings: Any, inputs: Any, **_: Any) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        asked.append((dataset, settings.seed))
        shutil.copytree(toy_model, directory)
        model = AutoModelForSequenceClassification.from_pretrained(toy_model)
        with torch.no_grad():
            model.classifier.out_proj.weight.mul_(settings.seed + len(dataset))
        model.save_pretrained(directory)
        (directory / "training.json").write_text(json.dumps({"made from": {"dataset": dataset}}))
        return Trained(directory, 1, 1, {})

    monkeypatch.setattr(reproduce, "train", train)
    monkeypatch.setattr(reproduce, "identity", lambda dataset, *_: {"dataset": dataset})
    return asked


def _matrix(**changes: Any) -> reproduce.Matrix:
    return reproduce.Matrix("xquad-r", ("zero-shot", "ml-cs"), (1, 2), None, ("oracle",), "toy", Path("encoder"))._replace(**changes)


def test_a_matrix_resumes_and_recomputes_what_changed(demo_matrix: list[tuple[str, int]], tmp_path: Path) -> None:
    runs, work = tmp_path / "runs", tmp_path / "work"

    def go(**changes: Any) -> reproduce.Made:
        return reproduce.reproduce(_matrix(**changes), runs, work, cache=tmp_path / "cache", quiet=True, say=lambda line: None)

    made = go()
    assert (made.computed, made.kept) == (12, 0)  # two systems, two seeds, three tracks
    assert demo_matrix == [(f"csrerank/en-qa/train/{system}/seed-{seed}", seed) for system in ("zero-shot", "ml-cs") for seed in (1, 2)]
    layout = Layout(runs, work, "toy")
    cell = Cell(SYSTEMS["ml-cs"], 2, DEMO[1], "oracle")
    ranking = list(read_run(layout.run(cell)))
    assert len(ranking) == SCALES["toy"].topics and all(len(topic.docs) <= SCALES["toy"].k for topic in ranking)
    assert set(read_scores(layout.scores(cell))) == {topic.topic for topic in ranking}
    known = read_sidecar(layout.run(cell))
    assert known is not None and known["cell"]["k"] == 5 and known["data"]["test collection"]["ir_datasets"] == "csrerank/demo/en-de"

    again = go()
    assert (again.computed, again.kept) == (0, 12) and again.tables == made.tables and len(demo_matrix) == 4
    layout.run(cell).unlink()
    layout.scores(Cell(SYSTEMS["ml-cs"], 1, DEMO[0], "oracle")).unlink()
    mended = go()
    assert (mended.computed, mended.kept) == (2, 10) and mended.tables == made.tables
    # Another model under the same name: its cells are made anew, the others stay.
    config = layout.model("ml-cs", False, 1) / "config.json"
    config.write_text(config.read_text().replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2') + " ")
    assert go().computed == 3
    # Trained by other settings than asked: trained anew.
    (layout.model("zero-shot", False, 2) / "training.json").write_text('{"made from": {"dataset": "another"}}')
    assert go().computed == 0 and len(demo_matrix) == 5  # the same weights come out, so the cells hold


def test_the_tables_of_a_matrix(demo_matrix: list[tuple[str, int]], tmp_path: Path) -> None:
    made = reproduce.reproduce(_matrix(), tmp_path / "runs", tmp_path / "work", cache=tmp_path / "cache", quiet=True, say=lambda line: None)
    for wanted in (
        "Candidates: the English run carried over (an oracle",
        "| zero-shot | ",
        "**MoIR seen**",
        "± ",
        "| ml-cs | CLIR seen average |",
        "verdict",
        "Gain by token overlap",
    ):
        assert wanted in made.tables
    partial = reproduce.report(
        _matrix(systems=("zero-shot", "ml-cs", "wiki-cs")),
        reproduce.plan(_matrix(), tmp_path / "work")[0],
        DEMO,
        Layout(tmp_path / "runs", tmp_path / "work", "toy"),
    )
    assert "wiki-cs" not in partial.split("**Against")[0] or tables.NOT_RUN in partial


FOUND = {
    ("zero-shot", "a"): [{"1": 0.5, "2": 0.0}, {"1": 0.7, "2": 0.0}],
    ("ml-cs", "a"): [{"1": 1.0, "2": 0.5}],
    ("zero-shot", "b"): [{"1": 0.2, "2": 0.4}],
    ("ml-cs", "b"): [{"1": 0.2, "2": 0.6}],
}


def test_seeds_and_tracks_are_averaged_within_topics() -> None:
    assert tables.over_seeds(FOUND, "zero-shot", "a") == pytest.approx({"1": 0.6, "2": 0.0})
    assert tables.over_tracks(FOUND, "zero-shot", ["a", "b"]) == pytest.approx({"1": 0.4, "2": 0.2})
    assert tables.over_tracks(FOUND, "zero-shot", ["a", "c"]) is None
    rows = tables.main_table(
        FOUND, ["zero-shot", "ml-cs", "wiki-cs"], [Track("a", "x", "CLIR seen"), Track("b", "x", "CLIR seen"), Track("c", "x", "MoIR seen")]
    )
    assert "| zero-shot | 30.0 ± 7.1 | 30.0 | 30.0 |" in rows and "| ml-cs | 75.0 | 40.0 | 57.5 |" in rows
    assert not any("wiki-cs" in row for row in rows)
    assert f"| zero-shot | {tables.NOT_RUN} | {tables.NOT_RUN} |" not in rows  # a group that no system ran has no rows


def test_overlap_counts_words_shared_with_the_relevant_documents() -> None:
    assert tables.overlap_kind({"a", "b"}, {"c"}) == "none"
    assert tables.overlap_kind({"a", "b", "c"}, {"a", "b", "c"}) == "1 to 3"
    assert tables.overlap_kind(set("abcd"), set("abcd")) == "more"
    rows = tables.overlap_table(FOUND, ["zero-shot", "ml-cs"], {"a": {"1": "none", "2": "more"}, "b": {"1": "none", "2": "none"}})
    assert "| ml-cs | none | 3 | 40.0 | +20.0 |" in rows and "| ml-cs | more | 1 | 0.0 | +50.0 |" in rows


def test_a_model_trained_otherwise_is_trained_anew(tmp_path: Path) -> None:
    made = []

    def make(directory: Path) -> None:
        made.append(directory)
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        (directory / "training.json").write_text('{"made from": {"seed": 1}}')

    for wanted, times in (({"seed": 1}, 1), ({"seed": 1}, 1), ({"seed": 2}, 2)):
        trained(tmp_path / "model", wanted, make)
        assert len(made) == times


def test_damaged_scores_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.scores.tsv.gz"
    path.write_bytes(gzip.compress(b"1\tnot a number\n"))
    with pytest.raises(InputError, match="not a cell's scores"):
        read_scores(path)


def test_the_command_refuses_what_it_cannot_do_and_lists_cells(cli: Cli, tmp_path: Path) -> None:
    for wrong, told in (
        (["--systems", "nothing"], "--systems nothing: known are"),
        (["--tracks", "en-xx"], "no such track"),
        (["--seeds", "a"], "whole numbers"),
        (["--first-stage", "bm25"], "known are dense, oracle"),
        (["--collection", "mmarco"], "mMARCO has its own candidates"),
        (["--systems", ","], "--systems is empty"),
        (["--systems", "fine-tuning"], "belong together"),
        (["--translations", "none.jsonl"], "belong together"),
    ):
        done = cli("reproduce", "--dry-run", "--work", tmp_path / "work", *wrong)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
    done = cli("reproduce", "--dry-run", "--work", tmp_path / "work", "--output", tmp_path / "runs", "--systems", "zero-shot,ml-cs", "--seeds", "1,2")
    assert done.returncode == 0 and done.stdout.count("train ") == 4 and done.stdout.count("rerank ") == 36 and "36 cells, about" in done.stdout


@needs_real_data
def test_overlap_on_xquad() -> None:
    track = tracks("xquad-r", ["en-ar"])[0]
    import csrerank.experiments.reproduce as module

    run = Path(__file__).parents[1] / "runs" / "xquad-r" / "en-ar.bm25.trec.gz"
    kinds = module.overlap_kinds(track, run)
    # Arabic sentences share a name or a number in Latin letters at most with an English question.
    assert sum(kind == "none" for kind in kinds.values()) / len(kinds) > 0.8
