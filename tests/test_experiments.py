"""Experiments: tracks, systems, the matrix that resumes cell by cell, and the paper's tables on figures computed by hand."""

import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, needs_real_data
from toy.encoders import ENCODERS, build_encoder

from csrerank.cache import cache_folder
from csrerank.errors import InputError
from csrerank.evaluation.paired import DRAWS
from csrerank.experiments import candidates, matrix, reproduce, tables
from csrerank.experiments.alike import unlike
from csrerank.experiments.candidates import candidates_path, first_stage, listed_candidates, qrels_of, versions_of
from csrerank.experiments.layout import Cell, Layout, cells, read_scores, scores_of
from csrerank.experiments.matrix import Ranker
from csrerank.experiments.overlap import overlap_kinds, tokens
from csrerank.experiments.scale import SCALES
from csrerank.experiments.systems import SYSTEMS, systems
from csrerank.experiments.tracks import SMALL, Track, tracks
from csrerank.languages import SEEN, XQUAD
from csrerank.metadata import read_sidecar, sidecar, write_sidecar
from csrerank.training.job import Trained
from csrerank.trec import TopicRun, read_run, write_run

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
    with pytest.raises(InputError, match="xquad-r has no such track"):
        tracks("xquad-r", ["en-xx"])
    others = tracks("xquad-r", ["de-zh", "ru-en", "zh-en", "en-en"])  # the paper's first, then others of the collection
    assert [(track.name, track.group) for track in others] == [
        ("en-en", "MoIR seen"), ("de-zh", "CLIR unseen"), ("ru-en", "CLIR seen"), ("zh-en", "CLIR unseen"),
    ]  # fmt: skip


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
    assert SYSTEMS["ml-cs+tt"].dataset(known["en-en"]) == "csrerank/xquad-r/en-en"  # nothing to translate
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
    (given,) = systems(["model:some/folder v2"], tmp_path)
    assert given.checkpoint == "some/folder v2" and given.model(known["en-en"]) == "model:some/folder v2" and given.dataset(known["en-en"]) is not None
    assert given.slug.startswith("model-folder-v2-") and SYSTEMS["bl-cs"].checkpoint is None
    for wrong in ("ml-cs@2", "ml-cs@x", "nothing", "bl-cs/xx-yy", "model:"):
        with pytest.raises(InputError):
            systems([wrong], tmp_path)


def test_cells_are_those_that_a_system_defines(tmp_path: Path) -> None:
    untrained = systems(["model:default"], tmp_path)
    assert [cell.seed for cell in cells(untrained, [1, 2], tracks("xquad-r", ["en-en"]), ["dense"])] == [0]  # one, since no seed trains it
    made = list(cells([SYSTEMS["bl-cs"], SYSTEMS["zero-shot"]], [1, 2], tracks("xquad-r", ["en-en", "en-de"]), ["dense"]))
    assert [(cell.system.name, cell.seed, cell.track.name) for cell in made] == [
        ("bl-cs", 1, "en-de"), ("bl-cs", 2, "en-de"), *(("zero-shot", seed, name) for seed in (1, 2) for name in ("en-en", "en-de")),
    ]  # fmt: skip


class Trainings(list):
    """What was trained; ``variant`` stands for what an identity is made from."""

    variant = "first"


@pytest.fixture
def demo_matrix(monkeypatch: pytest.MonkeyPatch, toy_model: Path, toy_encoder: Path) -> Trainings:
    """A matrix over the demo collection whose models are the toy checkpoint, each seed with weights of its own."""
    monkeypatch.setattr(reproduce, "tracks_named", lambda collection, names: [track for track in DEMO if names is None or track.name in names])
    monkeypatch.setitem(SMALL, "xquad-r", [track.name for track in DEMO])
    monkeypatch.setattr(f"{__name__}.BASE", toy_encoder)
    asked = Trainings()

    def train(dataset: str, base: Path, directory: Path, settings: Any, inputs: Any, **_: Any) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        asked.append((dataset, settings.seed))
        shutil.copytree(toy_model, directory)
        model = AutoModelForSequenceClassification.from_pretrained(toy_model)
        with torch.no_grad():
            model.classifier.out_proj.weight.mul_(settings.seed + len(dataset))
        model.save_pretrained(directory)
        return Trained(directory, 1, 1, {})

    monkeypatch.setattr(reproduce, "train", train)
    monkeypatch.setattr(reproduce, "identity", lambda dataset, *_: {"dataset": dataset, "policy": asked.variant, "versions": {"torch": "1"}})
    return asked


@pytest.fixture
def quick_run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """First-stage runs of the demo collection without a search: all documents for every topic but the first judged one. It notes what it was asked."""
    asked: list[Any] = []

    def make(dataset: str, method: str, k: int, path: Path, *, encoder: Path | None = None, quiet: bool = False) -> Path:
        from csrerank.collections.catalogue import load

        asked.append((dataset, method, encoder))
        documents = [document.doc_id for document in load(dataset).docs_iter()]
        _, *topics = qrels_of(dataset, SCALES["toy"].topics)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_run(path, [TopicRun(topic, documents, [float(-place) for place in range(len(documents))]) for topic in topics], method)
        return path

    monkeypatch.setattr("csrerank.retrieval.apart.first_stage_run", make)
    return asked


BASE = Path("encoder")


def tabled(runs: Path, work: Path, **changes: Any) -> str:
    """The tables, for which no encoder is named."""
    ours = cache_folder() / "encoder"
    return reproduce.tabled(_matrix(**{"base": ours, "encoder": ours, **changes}), runs, work)


def _matrix(**changes: Any) -> reproduce.Matrix:
    return reproduce.Matrix("xquad-r", ("zero-shot", "ml-cs"), (1, 2), None, ("oracle",), "toy", BASE, encoder=BASE)._replace(**changes)


def test_a_matrix_resumes_and_recomputes_what_changed(demo_matrix: Trainings, quick_run: list[Any], tmp_path: Path) -> None:
    runs, work = tmp_path / "runs", tmp_path / "work"
    said: list[str] = []

    def go(**changes: Any) -> reproduce.Made:
        return reproduce.reproduce(_matrix(**changes), runs, work, cache=tmp_path / "cache", quiet=True, say=said.append)

    made = go()
    assert (made.computed, made.kept) == (12, 0)  # two systems, two seeds, three tracks
    assert demo_matrix == [(f"csrerank/en-qa/train/{system}/seed-{seed}", seed) for system in ("zero-shot", "ml-cs") for seed in (1, 2)]
    place = Layout(runs, work, "xquad-r", "toy")
    cell = Cell(SYSTEMS["ml-cs"], 2, DEMO[1], "oracle")
    ranking = list(read_run(place.run(cell)))
    assert len(ranking) == 3 and all(len(topic.docs) == SCALES["toy"].k for topic in ranking)
    assert {topic.topic for topic in ranking} < set(read_scores(scores_of(place.run(cell)))) == set(qrels_of(DEMO[1].dataset, SCALES["toy"].topics))
    assert len(quick_run) == 3  # a track
    known = read_sidecar(place.run(cell))
    assert known is not None and known["cell"]["k"] == 5 and known["data"]["test collection"]["ir_datasets"] == "csrerank/demo/en-de"
    for wanted in (
        "Candidates: the English run carried over (an oracle", "| zero-shot | ", "**MoIR seen**", "± ", "| ml-cs | CLIR seen average |", "verdict",
        "Gain by token overlap", "**Against the first stage**", "| zero-shot | en-de | ",
    ):  # fmt: skip
        assert wanted in made.tables

    again = go()
    assert (again.computed, again.kept) == (0, 12) and again.tables == made.tables and len(demo_matrix) == 4
    place.run(cell).unlink()
    scores_of(place.run(Cell(SYSTEMS["ml-cs"], 1, DEMO[0], "oracle"))).unlink()
    mended = go()
    assert (mended.computed, mended.kept) == (2, 10) and mended.tables == made.tables
    # Another model under the same name: its cells are made anew, the others stay.
    (directory,) = (work / "models" / "xquad-r").glob("ml-cs.toy.s1.*")
    config = directory / "config.json"
    config.write_text(config.read_text().replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2') + " ")
    changed = go()
    assert changed.computed == 3
    assert "| ml-cs | en | en de | " in made.tables  # English documents, asked for in two languages
    # A seed that is not there yet: its cell counts as not run.
    away = scores_of(place.run(cell)).rename(tmp_path / "scores")
    partly = tabled(runs, work)
    assert "count as not run: ml-cs en-de (1 of 2)." in partly and "| ml-cs | en-de | " not in partly and "| ml-cs | de-en | " in partly
    away.rename(scores_of(place.run(cell)))
    # Cells that were not made alike are told of.
    assert "not all made alike" not in partly
    kept = sidecar(place.run(cell)).read_text()
    sidecar(place.run(cell)).write_text(
        kept.replace("precision: " + known["cell"]["precision"], "precision: half").replace(known["cell"]["candidates sha256"], "others")
    )
    told = f"not all made alike: precision {known['cell']['precision']} (zero-shot, ml-cs), half (ml-cs); the bytes of the candidates' runs on en-de (first stage, zero-shot, ml-cs apart from ml-cs). `"
    assert told in tabled(runs, work)
    sidecar(place.run(cell)).write_text(kept)
    # A dry run says the same: all there, and nothing is written.
    before = sorted(tmp_path.rglob("*"))
    assert reproduce.listed(_matrix(), runs, work).count(": there") == 16
    # The tables alone need neither models nor candidates, and say what was not run.
    shutil.move(work, tmp_path / "away")
    whole = tabled(runs, work, systems=("zero-shot", "ml-cs", "wiki-cs"))
    assert f"| wiki-cs | {tables.NOT_RUN} | {tables.NOT_RUN} | {tables.NOT_RUN} |" in whole and "| ml-cs | CLIR seen average |" in whole
    assert tabled(runs, work) == changed.tables
    shutil.move(tmp_path / "away", work)
    assert sorted(tmp_path.rglob("*")) == before
    # Asked to train otherwise: trained beside what is there; the same weights come out, so the cells hold.
    demo_matrix.variant = "second"
    assert reproduce.listed(_matrix(), runs, work).count("train ") == 4 and ": there" not in reproduce.listed(_matrix(systems=("zero-shot",)), runs, work)
    assert go(systems=("zero-shot",), seeds=(1,)).computed == 0 and len(demo_matrix) == 5
    assert len(list((work / "models" / "xquad-r").glob("zero-shot.toy.s1.*"))) == 2


def test_a_checkpoint_is_a_row(demo_matrix: Trainings, quick_run: list[Any], tmp_path: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "LARGE", 10)
    said: list[str] = []
    asked = _matrix(systems=(f"model:{toy_model}",), tracks=("en-de",), base=cache_folder() / "encoder")  # there is none
    made = reproduce.reproduce(asked, tmp_path / "runs", tmp_path / "work", cache=tmp_path, quiet=True, say=said.append)
    assert made.computed == 1 and not demo_matrix and f"| model:{toy_model} | en-de | " in made.tables.split("**Against the first stage**")[1]
    assert "more than the 0 MB that should be kept" in said[-1]
    # A topic without candidates is no reason to leave it out: it scores 0, in the first stage too.
    first, *others = qrels_of("csrerank/demo/en-de", SCALES["toy"].topics)
    for run in (tmp_path / "runs").rglob("en-de.oracle.trec.gz"):
        scores = read_scores(scores_of(run))
        assert set(scores) == {first, *others} and scores[first] == 0.0 and first not in {ranking.topic for ranking in read_run(run)}
    assert len(list((tmp_path / "runs").rglob("*.scores.tsv.gz"))) == 2


def _told_of(cell: dict[str, Any], training: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A sidecar of a cell."""
    made = {"candidates sha256": "one", "qrels sha256": "q", "k": 5, "scoring": 4, "max length": 128, "precision": "fp32", "versions": {"torch": "2"}}
    return {"cell": {**made, **cell}, **({"training": training} if training else {}), **more}


def _trained_by(settings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = {
        "dataset": "csrerank/en-qa/train/ml-cs/seed-1", "policy": "p", "lexicons": {"open/en/de": "l"}, "base": "b" * 64, "encoder": "e" * 64,
        "settings": {"seed": 1, "learning_rate": 0.1, "topics": None, **(settings or {})}, "versions": {"torch": "2.1+cpu"},
    }  # fmt: skip
    return {"made from": {**made, **more.pop("made", {})}, "device": "cpu", "precision": "fp32", **more}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (_told_of({}, _trained_by({"seed": 2}, made={"dataset": "csrerank/en-qa/train/zero-shot/seed-2", "policy": "z", "lexicons": {}})), None),
        (_told_of({"candidates sha256": "two"}, _trained_by()), "the bytes of the candidates' runs on en-de (first stage, zero-shot apart from ml-cs). `"),
        (_told_of({"qrels sha256": "r"}, _trained_by()), "the judgements on en-de (first stage, zero-shot apart from ml-cs). `"),
        (_told_of({"max length": 64}, _trained_by()), "max length 128 (zero-shot), 64 (ml-cs). `"),
        (_told_of({}, _trained_by(made={"base": "c" * 64})), "base of the training bbbbbbbbbbbb (zero-shot), cccccccccccc (ml-cs). `"),
        (_told_of({}, _trained_by({"learning_rate": 0.2})), "learning rate of the training 0.1 (zero-shot), 0.2 (ml-cs). `"),
        (_told_of({}, _trained_by({"dropout": 0.1})), "dropout of the training not stated (zero-shot), 0.1 (ml-cs). `"),
        (_told_of({"versions": {"torch": "2", "faiss": "1"}}, _trained_by()), "faiss not stated (zero-shot), 1 (ml-cs). `"),
        (_told_of({}, _trained_by({"topics": 9})), "topics of the training none (zero-shot), 9 (ml-cs). `"),
        (_told_of({}, _trained_by(made={"versions": {"torch": "2.2"}})), "torch of the training 2.1 (zero-shot), 2.2 (ml-cs). `"),
        (_told_of({}, _trained_by(device="cuda")), "device of the training cpu (zero-shot), cuda (ml-cs). `"),
        (_told_of({}, _trained_by(precision=None)), "arithmetic of the training fp32 (zero-shot), not stated (ml-cs). `"),
        (_told_of({}, None), "the training stated (zero-shot), not stated (ml-cs). `"),
        (_told_of({}, _trained_by(), **{"ranked on": "cuda"}), "device of the ranking not stated (zero-shot), cuda (ml-cs). `"),
    ],
)
def test_a_table_tells_what_its_rows_differ_in(other: dict[str, Any], told: str | None, tmp_path: Path) -> None:
    """In ranking, candidates and training; not in the texts, policy and seed by which systems are told apart. Checkpoints that are given were trained otherwise."""
    place, ours, theirs = Layout(tmp_path, tmp_path, "xquad-r", "toy"), *(Cell(SYSTEMS[name], 1, DEMO[1], "dense") for name in ("zero-shot", "ml-cs"))
    (checkpoint,) = cells(systems(["model:some"], tmp_path), [1], [DEMO[1]], ["dense"])
    first = place.first_stage(DEMO[1], "dense")
    for run in (place.run(ours), place.run(theirs), place.run(checkpoint), first):
        run.parent.mkdir(parents=True, exist_ok=True)
    write_sidecar(place.run(ours), _told_of({}, _trained_by()))
    write_sidecar(place.run(theirs), other)
    write_sidecar(place.run(checkpoint), _told_of({}, None))
    write_sidecar(first, {"cell": {"candidates sha256": "one", "qrels sha256": "q"}})
    found: tables.Found = {(name, "en-de"): [{"1": 0.5}] for name in ("zero-shot", "ml-cs", tables.FIRST_STAGE)}
    lines = unlike([ours, theirs], found, place)
    end = "csrerank reproduce` without `--tables` makes them alike"
    if told is None:
        assert lines == []
        assert unlike([ours, checkpoint], {**found, ("model:some", "en-de"): [{"1": 0.5}]}, place) == []
        write_sidecar(first, {"cell": {"candidates sha256": "another", "qrels sha256": "q"}})
        (line, _) = unlike([ours, theirs], found, place)
        assert line == f"These cells were not all made alike: the bytes of the candidates' runs on en-de (first stage apart from zero-shot, ml-cs). `{end}."
        assert unlike([ours, theirs], {key: scores for key, scores in found.items() if key[0] != tables.FIRST_STAGE}, place) == []
    else:
        # What has nothing made anew is said, so that nobody waits for it.
        kept = re.match(r"(torch|arithmetic|device) of the (training|ranking)|the training|max length", told)
        but = f", but for {kept[0]}: it leaves these as they are" if kept else ""
        assert lines == [f"These cells were not all made alike: {told}{end}{but}.", ""]


def test_a_model_ranks_inputs_of_its_own_length_where_it_takes_less(quick_run: list[Any], tmp_path: Path, toy_model: Path) -> None:
    """The toy takes 128 tokens: cells of a scale that asks for 512 are made, and say so; those of a scale that asks for less are as before."""
    place, cell = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy"), Cell(SYSTEMS["ml-cs"], 1, DEMO[1], "oracle")
    path = first_stage(DEMO[1], "oracle", place, SCALES["toy"], None, True)
    for asked, ranked in ((512, 128), (100, 100)):
        ranker = Ranker(toy_model, {("en-de", "oracle"): path}, place, SCALES["toy"]._replace(max_length=asked), True, "cpu")
        made = read_sidecar(ranker.make(cell))
        assert made is not None and made["cell"]["max length"] == ranked == made["method"]["retrieval"][-1]["max length"]
        assert not ranker.missing(cell) and made["ranked on"] == "cpu"


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_length_that_a_model_takes_is_told_without_its_weights(kind: str, tmp_path: Path) -> None:
    from csrerank.models.backbones import load_backbone

    _, tokenizer = load_backbone(build_encoder(tmp_path, kind))
    (tmp_path / "model.safetensors").unlink()
    assert matrix.longest_input(tmp_path) == tokenizer.model_max_length
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        matrix.longest_input(tmp_path)


def test_a_damaged_record_is_told_before_anything_is_ranked(quick_run: list[Any], tmp_path: Path, toy_model: Path, demo_matrix: Trainings) -> None:
    model = tmp_path / "model"
    shutil.copytree(toy_model, model)
    asked = _matrix(systems=(f"model:{model}",), tracks=("en-de",), base=cache_folder() / "encoder")
    for damaged in (b"{", b"[]", b"\xff"):
        (model / "training.json").write_bytes(damaged)
        with pytest.raises(InputError, match=rf"^{model / 'training.json'}: not .+; mend it, or delete it"):
            reproduce.reproduce(asked, tmp_path / "runs", tmp_path / "work", cache=tmp_path, quiet=True)
        place = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy")
        ranker = Ranker(model, {("en-de", "oracle"): first_stage(DEMO[1], "oracle", place, SCALES["toy"], None, True)}, place, SCALES["toy"], True, "cpu")
        cell = Cell(SYSTEMS["ml-cs"], 1, DEMO[1], "oracle")
        with pytest.raises(InputError, match="training.json"):
            ranker.make(cell)
        assert not list(place.work.joinpath("cells").rglob("*"))
    (model / "training.json").write_text(json.dumps({**_trained_by(), "steps": 3, "seconds": 4}))
    made = read_sidecar(ranker.make(cell))
    assert made is not None and made["training"] == {**_trained_by(), "steps": 3}


def test_what_cannot_be_mended_by_an_option_of_the_command_names_none(demo_matrix: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``reproduce`` fixes the settings of its trainings."""
    from csrerank.training import record
    from csrerank.training.faults import OTHERWISE, TrainingError

    def go(train: Any) -> str:
        monkeypatch.setattr(reproduce, "train", train)
        with pytest.raises(InputError) as raised:
            reproduce._trained(_matrix(), "ml-cs", False, 1, Layout(tmp_path, tmp_path, "xquad-r", "toy"), tmp_path, True, lambda _: None)
        return str(raised.value)

    def fails(*_: Any, **__: Any) -> None:
        raise TrainingError("the loss is not a number", "lower --learning-rate", OTHERWISE)

    dataset = "training csrerank/en-qa/train/ml-cs/seed-1"
    assert go(fails) == f"{dataset}: the loss is not a number; train it by csrerank train with other settings, and rank the checkpoint as model:DIR"
    folders: list[Path] = []

    def unfinished(_: str, base: Path, directory: Path, *__: Any, **___: Any) -> None:
        folders.append(directory)
        record.claim(directory, {"versions": 1, "threads": 1}).close()
        record.check_free(directory, {"versions": 2, "threads": 2})

    said = go(unfinished)
    assert said == (
        f"{dataset}: {folders[0]}: an unfinished training with another versions, threads; "
        "go on with what it was begun with (versions, device, threads), or delete this folder to begin anew"
    )


def test_files_that_vanish_while_they_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run").write_bytes(b"12345")
    (tmp_path / "a" / "gone").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is asked for its size
    assert reproduce._size(tmp_path) == 5 and reproduce._size(tmp_path / "none") == 0


def test_candidates_follow_the_texts_and_cells_their_bytes(
    quick_run: list[Any], tmp_path: Path, toy_model: Path, toy_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other texts behind the same id are searched anew; where that gives the same bytes, what was made of them stays."""
    from csrerank.collections import digests

    place, scale, cell = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy"), SCALES["toy"], Cell(SYSTEMS["ml-cs"], 1, DEMO[1], "oracle")

    def ranker() -> Ranker:
        return Ranker(toy_model, {("en-de", "oracle"): first_stage(DEMO[1], "oracle", place, scale, None, True)}, place, scale, True, "cpu")

    ranker().make(cell)
    for digest in ("topics_digest", "documents_digest"):
        known = getattr(digests, digest)
        for stage, changed in (("dense", DEMO[1].dataset), ("oracle", DEMO[1].dataset), ("oracle", "csrerank/demo/en-en")):
            before = candidates_path(DEMO[1], stage, place, scale, toy_encoder)
            with monkeypatch.context() as patched:
                patched.setattr(digests, digest, lambda dataset, known=known, changed=changed: known(dataset) + "!" * (dataset == changed))
                assert candidates_path(DEMO[1], stage, place, scale, toy_encoder) != before
            assert candidates_path(DEMO[1], stage, place, scale, toy_encoder) == before
    searches = len(quick_run)
    monkeypatch.setattr(digests, "topics_digest", lambda _: "others")
    assert not ranker().missing(cell) and len(quick_run) == searches + 1


def test_an_index_follows_the_texts_of_our_small_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of MS MARCO's size are told by their files alone, and not read for each run."""
    from csrerank.collections import digests
    from csrerank.collections.catalogue import load
    from csrerank.retrieval import bm25, first_stage

    read: list[str] = []
    built: list[Path] = []
    monkeypatch.setattr(bm25, "build_index", lambda documents, target, *_: built.append(target))
    dataset = load("csrerank/demo/en-de")

    def index(dataset_id: str) -> Path:
        return first_stage.bm25_index(dataset, dataset_id, "de", tmp_path, True)

    before = index("csrerank/demo/en-de")
    assert index("csrerank/demo/de-de") == before == built[0]  # pairs with the same documents share one
    for texts in ("others", "more"):
        monkeypatch.setattr(digests, "documents_digest", lambda dataset_id, texts=texts: read.append(dataset_id) or texts)
        index("csrerank/demo/en-de")
        index("csrerank/mmarco/en-de/dev/small")
    assert len({before, built[2], built[4]}) == 3 and built[3] == built[5] and read == ["csrerank/demo/en-de"] * 2


def test_a_cells_inputs(demo_matrix: Trainings, quick_run: list[Any], tmp_path: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, scale, cell = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy"), SCALES["toy"], Cell(SYSTEMS["ml-cs"], 1, DEMO[1], "oracle")
    path = first_stage(DEMO[1], "oracle", place, scale, None, True)
    hashed: list[Path] = []
    from csrerank.models import checkpoint, precision, reranker

    known = checkpoint.directory_hash(toy_model)
    for module in (checkpoint, reranker):
        monkeypatch.setattr(module, "directory_hash", lambda directory: hashed.append(directory) or known)

    def ranker(**changes: Any) -> Ranker:
        return Ranker(toy_model, {("en-de", "oracle"): path}, place, scale._replace(**changes), True, "cpu")

    mine = ranker()
    assert mine.missing(cell)
    mine.make(cell)
    assert not mine.missing(cell) and hashed.count(toy_model) <= 2  # once by the ranker, once by rerank_run
    assert not list(place.work.joinpath("cells").rglob("*.gz*"))
    assert ranker(max_length=100).missing(cell) and ranker(topics=3).missing(cell) and not ranker().missing(cell)
    monkeypatch.setattr(precision, "resolve_precision", lambda *_: "bf16 or so")
    assert ranker().missing(cell)
    monkeypatch.undo()
    for module in ("torch", "csrerank"):  # another build is no other version
        monkeypatch.setattr("csrerank.metadata.versions", lambda module=module: {module: "1.2+cpu", "numpy": "3"})
        assert versions_of("csrerank", "torch") == {module: "1.2"}
    monkeypatch.undo()
    # Other texts under the same names.
    candidates.texts_hash.cache_clear()
    from csrerank.collections import texts

    monkeypatch.setattr(texts, "default_text", lambda record, what: record.text + "!")
    assert ranker().missing(cell)
    candidates.texts_hash.cache_clear()
    monkeypatch.undo()
    assert not ranker().missing(cell)

    # Killed while the new run takes the old one's place: no cell, rather than a new run with the old inputs.
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    outputs: list[Path] = []
    made = matrix.Ranker._keep
    monkeypatch.setattr(Ranker, "_keep", lambda self, cell, work, *told: (outputs.append(work), made(self, cell, work, *told)))
    ranker().make(cell)
    monkeypatch.setattr(matrix, "write_run", killed)
    with pytest.raises(KeyboardInterrupt):
        ranker(max_length=100).make(cell)
    assert not sidecar(place.run(cell)).exists() and ranker().missing(cell)
    assert len({work.name for work in outputs}) == 2  # so that neither's journal blocks the other


def test_what_is_kept_of_the_first_stage(quick_run: list[Any], tmp_path: Path, toy_encoder: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "KEPT", 3)
    place, scale = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy"), SCALES["toy"]
    path = first_stage(DEMO[1], "dense", place, scale, toy_encoder, True)
    assert quick_run == [("csrerank/demo/en-de", "dense", toy_encoder)]  # the encoder is named, not left to the cache
    assert [len(ranking.docs) for ranking in read_run(path)] == [5, 5, 5] and path.is_relative_to(place.work)
    kept = place.first_stage(DEMO[1], "dense")
    assert [len(ranking.docs) for ranking in read_run(kept)] == [3, 3, 3] and len(read_scores(scores_of(kept))) == 4
    assert first_stage(DEMO[1], "dense", place, scale, toy_encoder, True) == path and len(quick_run) == 1
    assert candidates_path(DEMO[1], "dense", place, scale, toy_encoder) == path
    assert candidates_path(DEMO[1], "dense", place, scale, toy_model) != path  # another encoder's
    assert candidates_path(DEMO[1], "dense", place, scale._replace(topics=3), toy_encoder) != path
    monkeypatch.setattr(candidates, "versions_of", lambda *_: {"torch": "another"})
    assert candidates_path(DEMO[1], "dense", place, scale, toy_encoder) != path


def test_candidates_come_from_a_search(tmp_path: Path) -> None:
    place = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy")
    path = first_stage(DEMO[1], "oracle", place, SCALES["toy"], None, True)
    rankings = list(read_run(path))
    assert {ranking.topic for ranking in rankings} == set(qrels_of(DEMO[1].dataset, 4)) and all(len(ranking.docs) == 5 for ranking in rankings)
    scores, known = read_scores(scores_of(place.first_stage(DEMO[1], "oracle"))), read_sidecar(path)
    assert (
        scores == {**dict.fromkeys(scores, 0.0), "tea-q1": 0.5}
        and known is not None
        and known["cut to"] == {"topics": 4, "k": 5}
        and "carried from" in str(known)
    )


def test_files_are_apart_by_collection() -> None:
    one, two = (Layout(Path("runs"), Path("work"), collection, "small") for collection in ("xquad-r", "mmarco"))
    cell = Cell(SYSTEMS["ml-cs"], 1, DEMO[1], "oracle")
    for path in (
        lambda place: place.run(cell), lambda place: place.unfinished(cell, "k"), lambda place: place.first_stage(DEMO[1], "oracle"),
        lambda place: place.candidates(DEMO[1], "oracle", "k"), lambda place: place.model("ml-cs", False, 1, "k"),
    ):  # fmt: skip
        assert path(one) != path(two)
    assert one.unfinished(cell, "k") != one.unfinished(cell, "l") and one.model("ml-cs", False, 1, "k") != one.model("ml-cs", False, 1, "l")


def test_a_seed_counts_once() -> None:
    assert reproduce.seeds("1,01,2") == (1, 2)


def test_a_models_name_is_what_it_is_trained_from() -> None:
    made_from = {"dataset": "csrerank/en-qa/train/policy:/here/ml-cs-0.25.yaml/seed-1", "policy": "f1", "versions": {"torch": "2.7+cpu"}}
    key = reproduce.model_key(made_from)
    assert key == reproduce.model_key({**made_from, "dataset": made_from["dataset"].replace("/here", "/else/where"), "versions": {"torch": "2.8"}})
    assert len({key, reproduce.model_key({**made_from, "policy": "f2"}), reproduce.model_key({**made_from, "dataset": made_from["dataset"][:-1] + "2"})}) == 3


def test_mmarco_ranks_its_own_candidates(tmp_path: Path, toy_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ir_datasets.formats import GenericScoredDoc

    rows = [GenericScoredDoc(topic, f"d{number}", 0.0) for number in range(30) for topic in ("1", "2", "unjudged")]
    monkeypatch.setattr("csrerank.collections.catalogue.load", lambda _: type("Listed", (), {"scoreddocs_iter": lambda self: iter(rows)})())
    monkeypatch.setattr("csrerank.evaluation.scoring.dataset_qrels", lambda _: {"1": {"d1": 1}, "2": {"d2": 1}, "3": {"d3": 1}})
    asked = _matrix(collection="mmarco", scale="small", tracks=("en-de", "ar-ru"), base=toy_encoder)
    _, chosen = reproduce.plan(asked, tmp_path / "policies")
    whole, small = Layout(tmp_path / "runs", tmp_path / "work", "mmarco", "full"), Layout(tmp_path / "runs", tmp_path / "work", "mmarco", "toy")
    path = first_stage(chosen[0], "oracle", whole, SCALES["full"], None, True)
    found = {ranking.topic: ranking.docs for ranking in read_run(path)}
    assert {topic: len(documents) for topic, documents in found.items()} == {"1": 30, "2": 30}  # all of them, though k is 100 and the scale's list 1,000
    assert found["1"] != found["2"] != [f"d{number}" for number in range(30)]  # MS MARCO's list has no order
    assert gzip.decompress(path.read_bytes()).split()[5] == b"oracle"
    assert {ranking.topic: ranking.docs for ranking in read_run(first_stage(chosen[0], "oracle", small, SCALES["toy"], None, True))} == {
        topic: documents[:5] for topic, documents in found.items()
    }
    assert not scores_of(whole.first_stage(chosen[0], "oracle")).exists()  # no ranking, so no row
    asked = _matrix(collection="mmarco", scale="full", tracks=("en-de",), base=cache_folder() / "encoder", encoder=None)
    lines = reproduce.tabled(asked, whole.runs, whole.work)
    assert "| zero-shot | *not run* |" in lines and "| first stage |" not in lines
    rows.clear()
    with pytest.raises(InputError, match="its scoreddocs have none of its judged topics"):
        list(listed_candidates("x", ["1"], 5))
    candidates.qrels_of.cache_clear()


def test_collections_train_by_their_own_settings(monkeypatch: pytest.MonkeyPatch, toy_encoder: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(reproduce, "identity", lambda dataset, base, settings, inputs: asked.append((dataset, settings)) or {"dataset": dataset})
    for collection in ("xquad-r", "mmarco"):
        reproduce._directory(
            _matrix(collection=collection, scale="full", base=toy_encoder), "ml-cs", False, 3, Layout(Path("r"), Path("w"), collection, "full")
        )
    (sentences, first), (passages, second) = asked
    assert (sentences, passages) == ("csrerank/en-qa/train/ml-cs/seed-3", "csrerank/msmarco/train/ml-cs/seed-3")
    assert (first.freeze_layers, second.freeze_layers) == (json.loads((toy_encoder / "config.json").read_text())["num_hidden_layers"] // 2, 0)
    assert (first.max_length, second.max_length) == (128, 256) and "article" in dict(first.negatives)
    assert dict(second.negatives) == {"docpairs": 0.75, "random": 0.25}  # its documents name no article
    assert (first.objective, first.distil > 0, second.objective, second.distil) == ("listwise", True, "pointwise", 0)  # the paper's, for the paper's collection


def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path: Path, toy_encoder: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n")
    for changes, told in (
        ({"device": "nothing"}, "--device nothing: torch has no such device"),
        ({"base": tmp_path / "none"}, "no encoder there"),
        ({"stages": ("dense",), "encoder": tmp_path / "none"}, "no bi-encoder there for dense candidates"),
        ({"encoder": tmp_path / "none"}, "no bi-encoder there for trainings to learn from"),
        ({"systems": ("fine-tuning",), "translations": broken}, "broken.jsonl:1: each line is one object"),
        ({"systems": (f"model:{tmp_path}",), "base": cache_folder() / "encoder"}, "no config.json in this directory"),
        ({"systems": ("model:some/hub",), "base": cache_folder() / "encoder"}, "no such directory"),
    ):
        with pytest.raises(InputError, match=told):
            reproduce.plan(_matrix(**{"base": toy_encoder, "encoder": toy_encoder, "tracks": ("en-en",), **changes}), tmp_path / "policies")


def test_a_dry_run_counts_what_is_there_to_count(tmp_path: Path, toy_encoder: Path) -> None:
    shown = reproduce.listed(
        _matrix(collection="mmarco", scale="full", tracks=("en-de",), base=toy_encoder, seeds=(1,), systems=("ml-cs@.25", "model:default")),
        tmp_path / "r", tmp_path / "w",
    ).splitlines()  # fmt: skip
    assert f"{502_939 // 8} steps" in shown[0] and f"{6_980 * 1000} pairs" in shown[1] and shown[2].startswith("rerank model-default-") and "rough" in shown[-1]
    assert not list(tmp_path.iterdir())


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
    assert f"| wiki-cs | {tables.NOT_RUN} | {tables.NOT_RUN} | {tables.NOT_RUN} |" in rows
    assert rows.count(f"| zero-shot | {tables.NOT_RUN} | {tables.NOT_RUN} |") == 1  # nor does a group vanish that no system ran
    with pytest.raises(InputError, match="tracks a and b have different topics .1 of them, such as '3'"):
        tables.over_tracks({("s", "a"): [{"1": 0.5}], ("s", "b"): [{"1": 0.5, "3": 0.0}]}, "s", ["a", "b"])


def test_p_values_are_those_of_the_t_test_corrected_over_the_table() -> None:
    # 40 topics, of which a system gains 0.2 in all but four: t is far below what a randomisation test of DRAWS can show.
    base = {str(topic): 0.3 for topic in range(40)}
    found = {
        ("zero-shot", "a"): [base],
        (tables.FIRST_STAGE, "a"): [{topic: 0.1 for topic in base}],
        ("up", "a"): [{topic: value + (0.2 if int(topic) >= 4 else -0.1) for topic, value in base.items()}],
        ("noise", "a"): [{topic: value + (0.3 if int(topic) % 2 else -0.3) for topic, value in base.items()}],
        ("still", "a"): [{topic: value + (0.03 if int(topic) % 2 else -0.03) for topic, value in base.items()}],
    }
    track, names = [Track("a", "x", "MoIR seen")], ["zero-shot", "up", "noise", "still"]
    made = {difference.system: difference for difference in tables.differences(found, names, track, {"a": None})}
    up = made["up"]
    assert up.comparison.p.t < 1e-9 < 1 / (DRAWS + 1) <= up.comparison.p.randomisation
    assert up.holm == up.bonferroni == pytest.approx(3 * up.comparison.p.t) and made["noise"].holm == made["noise"].bonferroni == 1.0
    (row,) = (line for line in tables.difference_table(list(made.values())) if line.startswith("| up |"))
    assert row.startswith("| up | a | +17.0 | ") and row.split(" | ")[5] == "< .0001" and row.split(" | ")[8] == "< .0001" and row.endswith("| < .0001 |")
    assert tables.shown_p(0.0001) == "0.0001" and tables.shown_p(0.00009) == "< .0001"
    above = tables.differences(found, [*names, tables.FIRST_STAGE], track, {"a": None}, tables.FIRST_STAGE)
    assert [difference.system for difference in above] == names and above[0].comparison.difference == pytest.approx(0.2)
    tests = tables.equivalences(found, names, track, {"a": None})
    same = {test.system: test for test in tests}
    assert same["still"].verdict == "equivalent" and same["up"].verdict == "different" and {test.what for test in tests} == {"a"}
    assert same["noise"].test.verdict == "inconclusive" and same["noise"].power < 0.5 and same["noise"].verdict == "not decidable at this size"
    assert 0.001 < same["still"].p < 0.05
    assert same["still"].p == pytest.approx(3 * max(same["still"].test.p_lower, same["still"].test.p_upper))
    assert any(line.endswith("not decidable at this size |") for line in tables.equivalence_table(tests))
    assert {"en-en", "de-de", "ru-ru", "ar-ar"} <= set(SMALL["xquad-r"])


def test_equivalence_is_corrected_and_so_is_its_power() -> None:
    base = {str(topic): 0.5 for topic in range(100)}
    moved = {topic: value + (0.078 if int(topic) % 2 else -0.078) for topic, value in base.items()}
    tracks = [Track(name, "x", "MoIR seen") for name in ("en-en", "de-de")]
    found = {(system, track.name): [moved if system != "zero-shot" else base] for system in ("zero-shot", "a", "b") for track in tracks}
    clusters = {track.name: None for track in tracks}
    (alone,) = tables.equivalences(found, ["zero-shot", "a"], tracks[:1], clusters)
    assert (alone.what, alone.verdict) == ("en-en", "equivalent") and alone.p < 0.05 and alone.power == alone.test.power
    several = tables.equivalences(found, ["zero-shot", "a", "b"], tracks, clusters)
    assert [(test.system, test.what) for test in several] == [("a", "en-en"), ("a", "average"), ("b", "en-en"), ("b", "average")]
    assert all(test.test.verdict == "equivalent" and test.p == pytest.approx(4 * alone.p) and test.p > 0.05 for test in several)
    assert all(test.power < alone.power and test.verdict == "not decidable at this size" for test in several)


def test_an_average_shows_its_spread_over_seeds() -> None:
    found = {("s", "a"): [{"1": 0.1}, {"1": 0.3}], ("s", "b"): [{"1": 0.2}, {"1": 0.2}], ("s", "c"): [{"1": 0.2}]}
    (row,) = (line for line in tables.main_table(found, ["s"], [Track(name, "x", "CLIR seen") for name in "ab"]) if line.startswith("| s |"))
    assert row == "| s | 20.0 ± 14.1 | 20.0 ± 0.0 | 20.0 ± 7.1 |"
    (row,) = (line for line in tables.main_table(found, ["s"], [Track(name, "x", "CLIR seen") for name in "ac"]) if line.startswith("| s |"))
    assert row.endswith("| 20.0 |")


def test_overlap_is_told_of_all_tracks_or_not_at_all() -> None:
    kinds = {"a": {"1": "none"}, "b": {"1": "more"}}
    found = {(system, track): [{"1": 0.5}] for system, track in (("zero-shot", "a"), ("zero-shot", "b"), ("s", "a"), ("s", "b"), ("part", "a"))}
    lines = tables.overlap_table(found, ["zero-shot", "s", "part"], kinds)
    assert lines[2:] == ["| s | none | 1 | 50.0 | +0.0 |", "| s | more | 1 | 50.0 | +0.0 |", "| part | all | *not run* | *not run* | *not run* |", ""]


def test_a_sweep_is_by_p() -> None:
    at = {name: [{"1": value}] for name, value in (("ml-cs", 0.5), ("ml-cs@1", 0.25), ("ml-cs@.25", 0.75))}
    found = {(name, "a"): scores for name, scores in at.items()}
    lines = tables.sweep_table(found, ["zero-shot", *at], [Track("a", "a", "CLIR seen")])
    assert lines[2:5] == ["| ml-cs | 0.25 | 75.0 |", "| ml-cs | 0.5 | 50.0 |", "| ml-cs | 1 | 25.0 |"]
    assert tables.sweep_table(found, ["zero-shot", "model:/tmp/a@b", "model:/tmp/a"], [Track("a", "a", "CLIR seen")]) == []
    assert tables.sweep_table(found, ["zero-shot", "ml-cs"], [Track("a", "a", "CLIR seen")]) == []


def test_topics_of_another_scale_are_one_line() -> None:
    with pytest.raises(InputError, match="topic '2' of the cells is not one of the track's"):
        tables.differences(FOUND, ["ml-cs"], [Track("a", "a", "CLIR seen")], {"a": {"1": "article"}})


def test_overlap_counts_words_shared_with_the_relevant_documents() -> None:
    assert tables.overlap_kind({"a", "b"}, {"c"}) == "none"
    assert tables.overlap_kind({"a", "b", "c"}, {"a", "b", "c"}) == "1 to 3"
    assert tables.overlap_kind(set("abcd"), set("abcd")) == "more"
    assert tokens("Die \u0661\u0669\u0669\u0660 Straße, Nr. \uff11\uff12!", "de") == {"die", "1990", "strasse", "nr", "12"}
    assert tokens("\u092f\u0939 \u0939\u093f\u0928\u094d\u0926\u0940 1990", "hi") == {"\u092f\u0939", "\u0939\u093f\u0928\u094d\u0926\u0940", "1990"}
    assert tokens("1990\u5e74IBM\u516c\u53f8\u0664\u0662", "zh") == {"1990", "\u5e74", "ibm", "\u516c\u53f8", "42"}
    rows = tables.overlap_table(FOUND, ["zero-shot", "ml-cs"], {"a": {"1": "none", "2": "more"}, "b": {"1": "none", "2": "none"}})
    assert rows[0] == "| system | overlap | topics × tracks | Zero-shot | gain |"  # a topic counts once a track
    assert "| ml-cs | none | 3 | 40.0 | +20.0 |" in rows and "| ml-cs | more | 1 | 0.0 | +50.0 |" in rows


def test_damaged_scores_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.scores.tsv.gz"
    whole = gzip.compress(b"".join(b"topic %d\t0.5\n" % number for number in range(99)))
    torn = whole[:10] + bytes([whole[10] ^ 0xFF]) + whole[11:]  # zlib's own error, not gzip's
    for damaged in (gzip.compress(b"1\tnot a number\n"), torn, whole[:-9], b"", gzip.compress(b""), b"1\t0.5\n"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"^{path}: not a cell's scores \(.+\); delete it, and the next run makes it again$"):
            read_scores(path)
    path.write_bytes(whole)
    assert len(read_scores(path)) == 99


def test_the_command_refuses_what_it_cannot_do_and_lists_cells(cli: Cli, tmp_path: Path, toy_encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from csrerank.cli import run_command

    for wrong, told in (
        (["--systems", "nothing"], "--systems nothing: known are"),
        (["--tracks", "en-xx"], "no such track"),
        (["--tracks", "en-de/paragraphs"], "no such track"),
        (["--systems", "ml-cs,ml-cs@.5"], "p = .5 is ml-cs itself"),
        (["--seeds", "a"], "whole numbers"),
        (["--seeds", "1,4294967296"], "give 0 to 4294967295"),
        (["--seeds", "1", "--systems", "model:default"], "--seeds 1: --systems names checkpoints alone, which are not trained here; leave it out"),
        (["--first-stage", "bm25"], "known are dense, oracle"),
        (["--collection", "mmarco"], "mMARCO has its own candidates"),
        (["--systems", ","], "--systems is empty"),
        (["--systems", "fine-tuning"], "belong together"),
        (["--tables"], "give one"),
        (
            ["--base", "e5", "--systems", "model:default", "--first-stage", "oracle"],
            "--base e5: --systems names checkpoints alone, and nothing is trained from it; leave it out",
        ),
        (["--first-stage", "oracle"], "no encoder there"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_command(["reproduce", "--dry-run", "--work", str(tmp_path / "work"), *wrong])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and told in said and said.count("\n") == 1, said
    for option in ("--base", "--encoder", "--translations", "--device"):
        with pytest.raises(SystemExit) as ended:
            run_command(["reproduce", "--tables", "--output", str(tmp_path / "runs"), option, "x"])
        said = capsys.readouterr().err
        assert (
            ended.value.code == 2
            and said == f"Error: {option} x: --tables prints what is there, whatever it was made from, and reads none of these; leave them out\n"
        )
    where = ("--work", tmp_path / "work", "--output", tmp_path / "runs", "--first-stage", "oracle", "--seeds", "1,2")
    done = cli("reproduce", "--dry-run", "--base", toy_encoder, "--encoder", toy_encoder, *where)
    assert done.returncode == 0 and done.stdout.count("train ") == 4 and done.stdout.count("rerank ") == 48 and "48 cells, about" in done.stdout
    assert not list(tmp_path.iterdir())  # neither policies nor folders


@needs_real_data
def test_overlap_on_xquad() -> None:
    track = tracks("xquad-r", ["en-ar"])[0]
    kinds = overlap_kinds(track, SCALES["small"])
    assert len(kinds) == 300
    # Arabic sentences share a name or a number in Latin letters at most with an English question.
    assert sum(kind == "none" for kind in kinds.values()) / len(kinds) > 0.8


def test_cards_get_the_results(demo_matrix: Trainings, quick_run: list[Any], tmp_path: Path, toy_model: Path, cli: Cli) -> None:
    from csrerank.models.card import write_card

    model = tmp_path / "model"
    shutil.copytree(toy_model, model)
    asked = _matrix(systems=(f"model:{model}",), base=cache_folder() / "encoder")  # there is none

    def go() -> reproduce.Made:
        return reproduce.reproduce(asked, tmp_path / "runs", tmp_path / "work", cache=tmp_path, cards=True, quiet=True)

    with pytest.raises(InputError, match="no model card with a section Limits"):
        go()
    assert not (tmp_path / "runs").exists()
    (model / "README.md").write_bytes(b"## Limits\n\xff\n")
    with pytest.raises(InputError, match=r"README.md: not UTF-8 text; write it as such, or leave --cards out$"):
        go()
    assert not (tmp_path / "runs").exists()
    write_card(model, base=None, training={"policy": "none"}, limits=["small"])
    plain = (model / "README.md").read_text()
    go()
    card = (model / "README.md").read_text()
    place = Layout(tmp_path / "runs", tmp_path / "work", "xquad-r", "toy")
    (cell,) = cells(systems([f"model:{model}"], tmp_path), [1], [DEMO[1]], ["oracle"])
    means = [tables.mean(read_scores(scores_of(run))) for run in (place.first_stage(DEMO[1], "oracle"), place.run(cell))]
    assert f"| this model | en-de | oracle | {means[0]:.4f} | {means[1]:.4f} |\n" in card
    section = card.index("## Results")
    marker = "<!-- csrerank reproduce -->\n"
    assert card.index("## Limits") > section and card[:section].removesuffix(marker) + card[card.index("## Limits") :] == plain
    go()
    assert (model / "README.md").read_text() == card  # replaced, not added
    (model / "README.md").write_text(card.replace("## Limits", "## Results\n\nMine.\n\n## Limits"))
    go()
    assert "## Results\n\nMine.\n\n" in (model / "README.md").read_text()  # another's section stays
    for given, said in (
        (["--systems", "model:default", "--first-stage", "oracle"], "--cards: model:default is the model that ships"), (["--tables"], "--cards writes what was measured"),
        (["--collection", "mmarco", "--first-stage", "oracle", "--systems", f"model:{model}"], "mmarco's list has no order"),
    ):  # fmt: skip
        done = cli("reproduce", "--cards", "--output", tmp_path / "none", "--work", tmp_path / "none", *given)
        assert done.returncode == 2 and said in done.stderr, done.stderr


@needs_real_data
@pytest.mark.slow
def test_a_matrix_is_trained_for_real(toy_encoder: Path, cli: Cli, tmp_path: Path) -> None:
    """Nothing stands for anything: killed in its first training it goes on, and a second call finds all of it there."""
    given = [
        "reproduce", "--systems", "zero-shot,ml-cs", "--scale", "toy", "--tracks", "en-en,en-de", "--base", str(toy_encoder), "--encoder", str(toy_encoder),
        "--output", str(tmp_path / "runs"), "--work", str(tmp_path / "work"),
    ]  # fmt: skip
    begun = subprocess.Popen([sys.executable, "-m", "csrerank", *given], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 900
        while not list(tmp_path.glob("work/models/xquad-r/*/checkpoints/settings.json")):
            assert begun.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        begun.kill()
        begun.wait()
    done = cli(*given, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "going on with an unfinished training" in done.stderr and "4 cells computed, 0 kept" in done.stderr
    assert "| ml-cs | CLIR seen average |" not in done.stdout and "| ml-cs | average of all |" in done.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("work/models/xquad-r/*/training.json")]
    assert sorted(record["made from"]["dataset"] for record in records) == ["csrerank/en-qa/train/ml-cs/seed-1", "csrerank/en-qa/train/zero-shot/seed-1"]
    assert all({name for name, count in record["negatives drawn"].items() if count} == {"bm25", "dense", "article", "random"} for record in records)
    again = cli(*given, timeout=600)
    assert again.returncode == 0 and "0 cells computed, 4 kept" in again.stderr and again.stdout == done.stdout
