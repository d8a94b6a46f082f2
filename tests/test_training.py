"""Training's parts: keyed negatives, texts switched anew in each epoch, objectives by hand, padding that changes nothing, words held out, validation."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ir_datasets
import pytest
from conftest import needs_freedict, needs_real_data
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import BaseDocPairs, BaseQrels, BaseQueries, GenericDocPair, GenericQrel, GenericQuery
from test_codeswitch import lexicon
from toy.encoders import ENCODERS, build_encoder

import csrerank.collections  # noqa: F401  registers
from csrerank.codeswitch import Lexicons, Policy, switch
from csrerank.codeswitch.held_out import TrainingLexicons, is_held_out
from csrerank.codeswitch.policy import Rule, Side
from csrerank.collections.catalogue import MemoryDocs
from csrerank.errors import InputError
from csrerank.training import collection as training_collection
from csrerank.training.collection import Collection, encoder_directory, read_candidates
from csrerank.training.groups import Group, Groups, Teacher, chosen, order
from csrerank.training.negatives import Drawer, of_article, of_run, parse_shares
from csrerank.training.objectives import OBJECTIVES, distilled, listwise, objective_named, pairwise, pointwise
from csrerank.training.validation import Validation, refuse_test_topics, switched_policy, validation_of

LENGTH = 40


class Sentence(NamedTuple):
    """A document of the toy dataset."""

    doc_id: str
    text: str
    title: str

    def default_text(self) -> str:
        return self.text


class Held(BaseQueries, BaseQrels, BaseDocPairs):
    """Topics, judgements and pairs in memory. Topic q3 has two relevant documents, q4 none, and one judgement is of a topic that does not exist."""

    def queries_iter(self) -> Iterator[Any]:
        return iter([GenericQuery(f"q{number}", f"the whale of number {number}") for number in range(5)])

    def queries_cls(self) -> Any:
        return GenericQuery

    def qrels_iter(self) -> Iterator[Any]:
        rows = [("q0", "d0", 1), ("q1", "d1", 2), ("q2", "d2", 1), ("q3", "d3", 1), ("q3", "d13", 1), ("q4", "d4", 0), ("q9", "d9", 1)]
        return iter([GenericQrel(topic, document, grade) for topic, document, grade in rows])

    def qrels_cls(self) -> Any:
        return GenericQrel

    def qrels_defs(self) -> dict[int, str]:
        return {0: "no", 1: "yes", 2: "very"}

    def docpairs_iter(self) -> Iterator[Any]:
        return iter([GenericDocPair("q0", "d0", name) for name in ("d5", "d6", "d5", "d7", "d8")])

    def docpairs_cls(self) -> Any:
        return GenericDocPair


def sentences() -> list[Sentence]:
    return [Sentence(f"d{number}", f"the whale is in the city of number {number}", f"article {number // 10}") for number in range(LENGTH)]


@pytest.fixture(scope="module")
def dataset() -> str:
    """The toy dataset's id; 40 sentences of 4 articles, 5 topics."""
    name = "toy-training"
    if name not in ir_datasets.registry._registered:
        ir_datasets.registry.register(name, Dataset(MemoryDocs(sentences, name, "en", Sentence), Held()))
    return name


def policy(probability: float = 0.5, mix: str = "toy", languages: Sequence[str] = ("de", "ru")) -> Policy:
    """Passages switch into two languages, queries into one."""
    into = tuple((lang, 1.0) for lang in languages)
    return Policy(
        "mine",
        Side((Rule("multilingual", into[:1], probability, lexicon=mix),)),
        Side((Rule("multilingual", into, probability, lexicon=mix),)),
        "Half of the words.",
    )


@pytest.fixture(scope="module")
def given() -> dict[tuple[str, str, str], Any]:
    words = ["the", "whale", "is", "in", "city", "of", "number"]
    return {("toy", "en", lang): lexicon(lang, {word: [f"{word}{lang}"] for word in words}) for lang in ("de", "ru")}


@pytest.fixture
def collection(dataset: str, given: dict[tuple[str, str, str], Any]) -> Collection:
    """The toy dataset, switched."""
    made = Collection(dataset, Lexicons(given))
    made.policy, made.seed = policy(), 11
    return made


# Negatives


def test_shares() -> None:
    """Weights are normalised; a source alone weighs 1; blanks do not count."""
    assert parse_shares("bm25") == (("bm25", 1.0),)
    assert parse_shares("bm25=2, dense=1,random") == (("bm25", 0.5), ("dense", 0.25), ("random", 0.25))
    assert parse_shares("article=0.5,docpairs=1.5") == (("article", 0.25), ("docpairs", 0.75))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--negatives : '' is no source; known are bm25 dense article docpairs random, as bm25=2,dense=1"),
        ("bm25,", "--negatives bm25,: '' is no source"),
        ("BM25", "'BM25' is no source"),
        ("dense,dense=2", "--negatives dense,dense=2: 'dense' is given twice"),
        ("dense=", "the weight of dense must be a number above 0"),
        ("dense=x", "the weight of dense must be a number above 0"),
        ("dense=-1", "must be a number above 0"),
        ("dense=nan", "must be a number above 0"),
        ("dense=inf", "must be a number above 0"),
        ("dense=1=2", "must be a number above 0"),
    ],
)
def test_bad_shares(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_shares(text)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def drawer(shares: str, seed: int = 1, everything: int = 500, depth: int = 30) -> Drawer:
    """Topic t<n> has d<n> as relevant; BM25 gives documents of one name, dense of another."""
    names = [f"d{number}" for number in range(everything)] + [f"b{number}" for number in range(depth)] + [f"v{number}" for number in range(depth)]
    topics = [f"t{number}" for number in range(1000)]
    sources = {
        "bm25": of_run({topic: [f"b{number}" for number in range(depth)] for topic in topics}),
        "dense": of_run({topic: [f"v{number}" for number in range(depth)] for topic in topics}),
    }
    return Drawer(parse_shares(shares), sources, names, {topic: frozenset({f"d{topic[1:]}"}) for topic in topics}, seed)


def test_shares_are_realised() -> None:
    """Over 4,000 draws each source comes within five standard deviations of its share, and every document of a source is as likely."""
    made = drawer("bm25=2,dense=1,random=1")
    draws = [found for number in range(1000) for found in made.draw(f"t{number}", f"d{number}", 4, 0)]
    counted = Counter(source for _, source in draws)
    for source, share in (("bm25", 0.5), ("dense", 0.25), ("random", 0.25)):
        assert abs(counted[source] - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share)), source
        assert all(document[0] == {"bm25": "b", "dense": "v"}.get(source, document[0]) for document, origin in draws if origin == source)
    of_bm25 = Counter(document for document, source in draws if source == "bm25")
    mean = counted["bm25"] / 30
    assert len(of_bm25) == 30 and all(abs(count - mean) < 5 * math.sqrt(mean) for count in of_bm25.values())


def test_draws_are_keyed() -> None:
    """By topic, epoch and seed; not by what was drawn before."""
    one, other = drawer("bm25,random"), drawer("bm25,random")
    forth = {number: one.draw(f"t{number}", f"d{number}", 5, 3) for number in range(50)}
    back = {number: other.draw(f"t{number}", f"d{number}", 5, 3) for number in reversed(range(50))}
    assert forth == back
    assert forth != {number: one.draw(f"t{number}", f"d{number}", 5, 4) for number in range(50)}
    assert forth != {number: drawer("bm25,random", seed=2).draw(f"t{number}", f"d{number}", 5, 3) for number in range(50)}
    assert one.draw("t7", "d7", 5, 3)[:3] == one.draw("t7", "d7", 3, 3)


def test_relevant_documents_are_never_drawn() -> None:
    """Not even where a source gives little else; and no document twice."""
    relevant = {"t": frozenset({"a", "b", "c"})}
    found = Drawer(parse_shares("bm25,random"), {"bm25": of_run({"t": ["a", "b", "x", "c"]})}, list("abcxyz"), relevant, 1)
    for epoch in range(200):
        assert {document for document, _ in found.draw("t", "a", 3, epoch)} == {"x", "y", "z"}


def test_an_exhausted_source_is_made_up_for_at_random() -> None:
    """And counted as random, as is a topic that the run lacks."""
    found = Drawer(parse_shares("bm25"), {"bm25": of_run({"t": ["x", "a"]})}, list("abcdefx"), {"t": frozenset("a"), "u": frozenset("b")}, 1)
    assert sorted(source for _, source in found.draw("t", "a", 4, 0)) == ["bm25", "random", "random", "random"]
    assert [source for _, source in found.draw("u", "b", 2, 0)] == ["random", "random"]
    assert len(dict(found.draw("t", "a", 6, 0))) == 6
    with pytest.raises(InputError, match=r"^7 documents are too few for 7 negatives beside the relevant ones; lower --negatives-per-topic$"):
        found.check("tu", 7)
    found.check("tu", 6)


def test_negatives_of_the_same_article() -> None:
    members = {"whales": ["w1", "w2", "w3"], "ash": ["a1"]}
    article = {name: title for title, names in members.items() for name in names}
    found = Drawer(parse_shares("article"), {"article": of_article(members, article)}, list(article), {"t": frozenset({"w1"}), "u": frozenset({"a1"})}, 1)
    assert sorted(found.draw("t", "w1", 2, 0)) == [("w2", "article"), ("w3", "article")]
    assert [source for _, source in found.draw("u", "a1", 1, 0)] == ["random"]


# The collection


def test_a_collection(collection: Collection) -> None:
    assert collection.relevant == {"q0": {"d0"}, "q1": {"d1"}, "q2": {"d2"}, "q3": {"d3", "d13"}} and list(collection.topics) == ["q0", "q1", "q2", "q3", "q4"]
    assert collection.all_documents() == [f"d{number}" for number in range(LENGTH)]
    assert collection.texts(["d3", "d1", "d3"]) == {"d3": "the whale is in the city of number 3", "d1": "the whale is in the city of number 1"}
    assert collection.articles()["d19"] == "article 1" and collection.docpairs(3) == {"q0": ["d5", "d6", "d7"]}
    with pytest.raises(InputError, match=r"^toy-training: document 'd40' is not in the collection; check that runs and judgements belong to it$"):
        collection.texts(["d1", "d40"])
    assert collection.languages == {"en", "de", "ru"} and collection.documents_count() == LENGTH and not collection.is_switched


def test_judged_documents_are_in_the_collection(collection: Collection) -> None:
    """Those of the topics that are trained on, before anything is made."""
    collection.check_judged(collection.relevant, collection.all_documents())
    documents = [name for name in collection.all_documents() if name != "d13"]
    collection.check_judged(["q0", "q1", "q2"], documents)
    with pytest.raises(
        InputError, match=r"^toy-training: document 'd13', relevant to topic 'q3', is not in the collection; mend the judgements or the documents$"
    ):
        collection.check_judged(collection.relevant, documents)


def test_a_judged_document_that_is_missing_ends_it_at_the_start(dataset: str, toy_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.training.job import Settings, train

    monkeypatch.setattr(Held, "qrels_iter", lambda self: iter([GenericQrel(f"q{number}", f"d{number + 38}", 1) for number in range(5)]))
    settings = Settings(negatives=(("article", 1.0),), batch=2, max_length=48, query_tokens=24)
    with pytest.raises(InputError, match=r"document 'd4[0-2]', relevant to topic 'q[2-4]', is not in the collection"):
        train(dataset, toy_encoder, tmp_path / "out", settings, cache=tmp_path, quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_dense_run_is_made_by_the_encoder_in_the_cache(collection: Collection, toy_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cache of the process that makes it."""
    given: list[Path | None] = []
    monkeypatch.setattr("csrerank.retrieval.apart.first_stage_run", lambda *_, encoder, **__: given.append(encoder))
    (tmp_path / "encoder").symlink_to(toy_encoder)
    collection.run("dense", 10, tmp_path, None, True)
    collection.run("dense", 10, tmp_path, toy_encoder, True)
    collection.run("bm25", 10, tmp_path, None, True)
    assert given == [tmp_path / "encoder", toy_encoder, None]


def test_fingerprints_follow_what_is_held(dataset: str, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    before = collection.fingerprints
    assert set(before) == {"topics", "judgements", "documents"} and Collection(dataset, Lexicons()).fingerprints == before
    changed = [Sentence("d0", "the city", "article 0"), *sentences()[1:]]
    monkeypatch.setattr(collection._dataset, "docs_iter", lambda: iter(changed), raising=False)
    monkeypatch.delitem(collection.__dict__, "fingerprints")
    assert collection.fingerprints == before  # documents are read once in a process
    monkeypatch.delitem(collection.__dict__, "fingerprints")
    training_collection.documents_digest.cache_clear()
    monkeypatch.setattr("csrerank.collections.catalogue.load", lambda _: collection._dataset)
    assert collection.fingerprints == {**before, "documents": collection.fingerprints["documents"]} and collection.fingerprints != before
    training_collection.documents_digest.cache_clear()


def test_candidates_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    run.write_text("".join(f"{topic} Q0 d{rank} {rank} {9 - rank} bm25\n" for topic in ("q1", "other") for rank in range(1, 6)))
    assert read_candidates(run, {"q1": ""}, 3) == {"q1": ["d1", "d2", "d3"]}
    with pytest.raises(InputError, match="none of its topics is in the collection; give the run that belongs to --dataset"):
        read_candidates(run, {"q2": ""}, 3)
    with pytest.raises(InputError, match="no bi-encoder there"):
        encoder_directory(None, tmp_path)


@needs_real_data
@needs_freedict
@pytest.mark.slow
@pytest.mark.parametrize("base", ["csrerank/en-qa/train", "csrerank/en-qa/paragraphs/train"])
def test_switched_as_the_registered_id_has_it(base: str) -> None:
    """Texts of an epoch are those of the id ``.../seed-7/epoch-2``; sentences and paragraphs."""
    from csrerank.collections.catalogue import load

    collection = Collection(f"{base}/ml-cs/seed-7", Lexicons(quiet=True))
    assert (collection.base, collection.seed) == (base, 7)
    dataset = load(f"{base}/ml-cs/seed-7/epoch-2")
    documents = list(dataset.docs_iter()[:200:40])
    plain = collection.texts(document.doc_id for document in documents)
    for document in documents:
        assert collection.switched(plain[document.doc_id], document.doc_id, "passage", 2) == document.text
    assert any(plain[document.doc_id] != document.text for document in documents)
    assert any(collection.switched(plain[document.doc_id], document.doc_id, "passage", 1) != document.text for document in documents)
    for query, _ in zip(dataset.queries_iter(), range(5), strict=False):
        assert collection.switched(collection.topics[query.query_id], query.query_id, "query", 2) == query.text


# Groups


def groups(collection: Collection, epochs: int = 3, seed: int = 1, teacher: Teacher | None = None) -> Groups:
    drawn = Drawer(
        parse_shares("bm25,random"), {"bm25": of_run({topic: [f"d{number}" for number in range(20, 30)] for topic in collection.topics})},
        collection.all_documents(), collection.relevant, seed,
    )  # fmt: skip
    return Groups(collection, drawn, order(list(collection.relevant), epochs, seed), 3, seed, teacher)


def test_a_group(collection: Collection) -> None:
    """The relevant document first, texts switched by the function itself, keyed by id and epoch."""
    made = groups(collection)
    assert len(made) == 12
    for place, (epoch, topic) in enumerate(order(list(collection.relevant), 3, 1)):
        group = made[place]
        assert group.topic == topic and group.documents[0] in collection.relevant[topic] and len(set(group.documents)) == 4
        assert not collection.relevant[topic] & set(group.documents[1:])
        assert group.query == switch(collection.topics[topic], topic, policy(), collection.lexicons, 11, epoch, "query")[0]
        plain = collection.texts(group.documents)
        assert group.passages == [switch(plain[name], name, policy(), collection.lexicons, 11, epoch)[0] for name in group.documents]
        assert group.teacher == []


def test_each_epoch_is_fresh_and_each_place_pure(collection: Collection) -> None:
    made = groups(collection)
    by_epoch = [{group.topic: group for group in (made[place] for place in range(start, start + 4))} for start in (0, 4, 8)]
    for topic in collection.relevant:
        assert len({tuple(epoch[topic].documents[1:]) for epoch in by_epoch}) == 3
        assert len({epoch[topic].query for epoch in by_epoch}) > 1
    assert {group.documents[0] for epoch in range(20) for group in [groups(collection, 20)[place] for place in range(80)] if group.topic == "q3"} == {
        "d3",
        "d13",
    }
    again = groups(collection)
    assert [again[place] for place in (11, 3, 3, 0)] == [made[place] for place in (11, 3, 3, 0)]
    assert groups(collection, seed=2)[0] != made[0]
    with pytest.raises(IndexError):
        made[12]


def test_sources_are_counted(collection: Collection) -> None:
    made = groups(collection)
    counted = made.sources(12)
    assert sum(counted.values()) == 36 and set(counted) == {"bm25", "random"} and sum(made.sources(4).values()) == 12 and made.sources(0) == {}


def test_order() -> None:
    """A permutation in each epoch, another in the next and for another seed; whatever order topics come in."""
    topics = [f"t{number}" for number in range(30)]
    made = order(topics, 3, 5)
    epochs = [[topic for epoch, topic in made if epoch == wanted] for wanted in range(3)]
    assert [epoch for epoch, _ in made] == sorted([0, 1, 2] * 30) and all(sorted(epoch) == sorted(topics) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != topics
    assert order(topics[::-1], 3, 5) == made and order(topics, 1, 5) == made[:30] and order(topics, 3, 6) != made


def test_chosen_topics_are_nested() -> None:
    topics = [f"t{number}" for number in range(50)]
    assert sorted(chosen(topics, None)) == sorted(topics) and chosen(topics, 0) == []
    for count in range(50):
        assert chosen(topics, count) == chosen(topics[::-1], count + 1)[:count]


def test_teacher(collection: Collection, toy_encoder: Path, tmp_path: Path) -> None:
    """Scores are the cosines of the bi-encoder's vectors of plain texts."""
    from csrerank.models.embedding import Embedder

    teacher = Teacher.of(collection, toy_encoder, tmp_path, quiet=True)
    embedder = Embedder.load(toy_encoder)
    group = groups(collection, teacher=teacher)[2]
    texts = collection.texts(group.documents)
    expected = embedder.embed([texts[name] for name in group.documents], "passage") @ embedder.embed([collection.topics[group.topic]], "query")[0]
    assert group.teacher == pytest.approx(list(map(float, expected)), abs=1e-5) and len(set(group.teacher)) > 1


# Objectives


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_objectives_by_hand() -> None:
    import torch

    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    pointwise_sum = softplus(-2) + softplus(0) + softplus(-1) + softplus(-0.5) + softplus(1.5) + softplus(0)
    assert pointwise(logits).item() == pytest.approx(pointwise_sum / 6, abs=1e-6)
    assert pairwise(logits).item() == pytest.approx((softplus(-2) + softplus(-3) + softplus(1) + softplus(-0.5)) / 4, abs=1e-6)
    exact = [math.log(math.exp(2) + 1 + math.exp(-1)) - 2, math.log(math.exp(0.5) + math.exp(1.5) + 1) - 0.5]
    assert listwise(logits).item() == pytest.approx(sum(exact) / 2, abs=1e-6)
    assert pairwise(logits + 100).item() == pytest.approx(pairwise(logits).item(), abs=1e-4)
    assert all(torch.isfinite(objective(torch.tensor([[-1e4, 1e4]]))) for objective in OBJECTIVES.values())
    assert objective_named("listwise") is listwise and list(OBJECTIVES) == ["pointwise", "pairwise", "listwise"]
    with pytest.raises(InputError, match="unknown objective 'hinge'; known are pointwise pairwise listwise"):
        objective_named("hinge")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_push_the_relevant_document_up(name: str) -> None:
    import torch

    logits = torch.tensor([[0.3, 0.1, -0.7], [-2.0, 1.0, 0.5]], requires_grad=True)
    OBJECTIVES[name](logits).backward()
    assert logits.grad is not None and (logits.grad[:, 0] < 0).all() and (logits.grad[:, 1:] > 0).all()


def test_distilled() -> None:
    """0 where the student's softmax is the teacher's, whatever is added to the logits; by hand elsewhere."""
    import torch

    teacher = torch.tensor([[0.9, 0.8, 0.7], [0.1, 0.5, 0.3]])
    assert distilled(teacher / 0.05 + 3, teacher, 0.05).item() == pytest.approx(0, abs=1e-6)
    uniform = distilled(torch.zeros(1, 2), torch.tensor([[math.log(3) * 0.5, 0.0]]), 0.5).item()  # the teacher says 3/4 and 1/4
    assert uniform == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6) and uniform > 0
    generator = torch.Generator().manual_seed(1)
    assert all(distilled(torch.randn(2, 3, generator=generator), teacher, 0.05).item() > 0 for _ in range(20))


# Batches


@pytest.mark.parametrize("kind", ["xlm-r", "mbert", "mdeberta"])
def test_parts_and_padding_change_no_loss(kind: str, tmp_path: Path) -> None:
    """In one part, in some, and each pair alone without padding: the same loss, that of transformers' own encoding of the pairs."""
    import torch
    from transformers import TrainingArguments

    from csrerank.models.backbones import load_backbone
    from csrerank.models.batching import PairEncoder
    from csrerank.training import trainer

    model, tokenizer = load_backbone(build_encoder(tmp_path / kind, kind), "mean" if kind == "xlm-r" else "first")
    model.eval()
    generator = random.Random(3)
    texts = [" ".join(generator.choices(["whale", "sleep", "the", "ash"], k=generator.randint(1, 9))) for _ in range(12)]
    batch = [Group(f"t{at}", list("abc"), texts[at], texts[3 * at : 3 * at + 3], [0.9, 0.5, 0.1 * at]) for at in range(4)]
    loss = trainer.Loss(listwise, 0.25, 0.1)
    running = trainer.ranking_trainer(loss, None, model=model, args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True))
    encoder = PairEncoder(tokenizer, 100, 40)
    values, numbers = [], []
    for budget in (10**6, 120, 1):
        inputs = trainer.collator(encoder, budget)(batch)
        numbers.append(len(inputs["parts"]))
        assert all("token_type_ids" in part for part in inputs["parts"]) is (kind != "xlm-r")
        with torch.no_grad():
            value, logits = running.compute_loss(model, inputs, return_outputs=True)
        values.append(value.item())
    assert numbers[0] == 1 < numbers[1] < numbers[2] == 12
    assert values == pytest.approx([values[0]] * 3, abs=5e-6)  # sums of float32 in another order

    whole = tokenizer(
        [group.query for group in batch for _ in range(3)], [text for group in batch for text in group.passages], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**whole).logits.view(4, 3)
    assert torch.allclose(logits, expected, atol=1e-5)
    by_hand = 0.75 * listwise(expected) + 0.25 * distilled(expected, torch.tensor([group.teacher for group in batch]), 0.1)
    assert values[0] == pytest.approx(by_hand.item(), abs=1e-6)


def test_a_broken_checkpoint_is_removed(tmp_path: Path) -> None:
    """The last whole one counts, by its number; one without its state, or without a process's random state, is no checkpoint."""
    from csrerank.training.trainer import is_exhausted, last_checkpoint

    assert last_checkpoint(tmp_path) is None
    for step, content, states in (
        (8, '{"global_step": 8}', 2),
        (10, '{"global_step": 10}', 2),
        (12, '{"global_step": 12}', 1),
        (14, '{"global_st', 2),
        (16, None, 2),
        (18, "{}", 2),
    ):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for process in range(states):
            (folder / f"rng_state_{process}.pth").touch()
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    assert last_checkpoint(tmp_path, 2) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-8"]

    history = [{"loss": 1.0}, *({"eval_mean": value} for value in (0.4, 0.6, 0.6, 0.5))]
    assert [is_exhausted(history[: end + 1], 2) for end in range(5)] == [False, False, False, False, True]
    assert not is_exhausted(history, 3) and not is_exhausted(history, None) and not is_exhausted([], 1)


# Words held out


def test_held_out_words_are_never_translated_in_training() -> None:
    """A tenth of the words, the same in every language; validation switches them."""
    generator = random.Random(1)
    words = sorted({"".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(3000)})
    given = {("open", "en", lang): lexicon(lang, {word: [f"{word}{lang}"] for word in [*words, f"{words[0]} {words[1]}"]}) for lang in ("de", "ru")}
    out = [word for word in words if is_held_out(word)]
    assert abs(len(out) - 0.1 * len(words)) < 5 * math.sqrt(len(words) * 0.09)
    lexicons = TrainingLexicons(given)
    for lang in ("de", "ru"):
        found = lexicons.find("open", "en", lang)
        assert found is lexicons.find("open", "en", lang) and found.fingerprint != given[("open", "en", lang)].fingerprint
        assert {word for word in words if not found.translations(word)} == set(out) and set(words) - set(found) == set(out)
        assert [row.text for row in found.translations(next(word for word in words if word not in out))]
        assert len(found) == sum(1 for _ in found)
    both = policy(1.0, "open")
    text = " ".join(words)
    switched = {record.original for record in switch(text, "d1", both, lexicons, 1)[1]}
    assert switched == set(words) - set(out)
    assert {record.original for record in switch(text, "d1", both, Lexicons(given), 1)[1]} == set(words)


def test_all_forms_of_a_word_are_held_out_together() -> None:
    """By their lemma, whatever way leads to it."""
    families = [("war", "wars"), ("whale", "whales"), ("house", "houses"), ("sleep", "sleeps", "sleeping", "slept"), ("city", "cities"), ("be", "was", "were")]
    for share in (0.05 * step for step in range(20)):
        for family in families:
            assert len({is_held_out(word, share) for word in family}) == 1, (family, share)
    assert len({next(step for step in range(101) if is_held_out(family[0], step / 100)) for family in families}) > 3  # families are drawn apart


def test_a_phrase_is_held_out_with_any_of_its_words() -> None:
    """Else training would show the word within it."""
    words = [f"word{number}" for number in range(200)]
    out, kept = next(word for word in words if is_held_out(word)), [word for word in words if not is_held_out(word)]
    phrases = [f"{kept[0]} {out}", f"{out} {kept[1]}", f"{kept[0]} {kept[1]}"]
    found = TrainingLexicons({("open", "en", "de"): lexicon("de", {phrase: ["x"] for phrase in phrases})}).find("open", "en", "de")
    assert list(found) == phrases[2:] and found.prefixes(f"{phrases[0]} x") == [] and found.prefixes(f"{phrases[2]} x") == phrases[2:]
    assert [bool(found.translations(phrase)) for phrase in phrases] == [False, False, True]


# Validation


def test_validation_ranks_the_same_candidates_in_each_track() -> None:
    """RR@10 by hand; ties keep the first stage's order; every word switches, held-out ones too; a topic without candidates counts 0."""
    words = ["whale", "sleep", "mountain", "ash", *(f"word{one}{two}" for one in "abcdef" for two in "abcdefghij")]
    given = {("toy", "en", "de"): lexicon("de", {word: [f"{word}de"] for word in words})}
    texts = {f"d{number}": f"{words[number]} {words[number + 20]} {words[number + 40]}" for number in range(4)}
    topics = {"q0": "whale sleep", "q1": "ash", "q2": "mountain"}
    candidates = {"q0": ["d0", "d1", "d2"], "q1": ["d3", "d2"]}
    relevant = {"q0": frozenset({"d2"}), "q1": frozenset({"d3", "d9"}), "q2": frozenset({"d1"}), "q3": frozenset({"d0"})}
    validation = Validation(topics, candidates, texts, relevant, policy(1.0, "toy", ["de"]), Lexicons(given))
    seen: list[tuple[list[str], list[str]]] = []

    def score(queries: Sequence[str], passages: Sequence[str]) -> list[float]:
        seen.append((list(queries), list(passages)))
        return [[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 2.0, -1.0, 0.0], [0.0, 0.0, 5.0, 1.0, 0.0]][len(seen) - 1]

    values = validation(score)
    assert values == pytest.approx({"en-en": (1 / 3 + 1) / 3, "en-cs": (1 / 2 + 1 / 2) / 3, "cs-cs": (1 + 1) / 3, "mean": (4 / 3 + 1 + 2) / 9})
    plain = [texts[name] for names in candidates.values() for name in names]
    assert seen[0] == (["whale sleep"] * 3 + ["ash"] * 2, plain) and seen[1][0] == seen[0][0]
    assert seen[1][1] == seen[2][1] == [" ".join(f"{word}de" for word in text.split()) for text in plain]
    assert seen[2][0] == ["whalede sleepde"] * 3 + ["ashde"] * 2


TESTING = [
    "csrerank/xquad-r/en-en", "csrerank/xquad-r", "csrerank/mmarco/en-de/dev/small", "csrerank/xor-retrieve/ja-en/dev", "miracl/de/test-a", "mmarco/de/dev/small",
    "mmarco/v2/dt/dev", "mmarco/pt/dev/small/v1.1", "msmarco-passage/dev/small", "msmarco-passage/dev", "msmarco-passage/eval/small", "msmarco-passage/trec-dl-2019/judged",
    "msmarco-passage/trec-dl-hard/fold1", "msmarco-passage-v2/dev1", "beir/scifact/test", "clirmatrix/de/bi139-base/en/test1", "codec/TEST",
]  # fmt: skip


@pytest.mark.parametrize("dataset_id", TESTING)
def test_test_topics_neither_choose_nor_train(dataset_id: str) -> None:
    with pytest.raises(
        InputError, match=f"^--validation {dataset_id}: test topics must not choose a checkpoint; give validation topics, as csrerank/en-qa/validation$"
    ):
        refuse_test_topics("csrerank/en-qa/train", dataset_id)
    with pytest.raises(InputError, match=f"^--dataset {dataset_id}: test topics must not train; give training topics, as csrerank/en-qa/train/ml-cs$"):
        refuse_test_topics(dataset_id, None)


def test_what_may_train_and_choose(tmp_path: Path) -> None:
    """Training parts, whatever their switching policy's file is called; validation topics, plain, and others than the training's."""
    policy_file = tmp_path / "test" / "dev" / "mine.yaml"
    policy_file.parent.mkdir(parents=True)
    policy_file.write_text("name: mine\nquery: {rules: []}\npassage: {rules: []}\n")
    own = f"csrerank/msmarco/train/policy:{policy_file}"
    for trained in (
        "csrerank/en-qa/train",
        "csrerank/en-qa/train/ml-cs/seed-3",
        own,
        "mmarco/de/train",
        "csrerank/demo/en-de",
        "csrerank/demo/de-de/translate-test",
    ):
        refuse_test_topics(trained, None)
        refuse_test_topics(trained, "csrerank/en-qa/validation")
        refuse_test_topics(trained, "msmarco-passage/train/split200-valid")
    with pytest.raises(InputError, match="^--validation mmarco/de/train: test topics must not choose"):
        refuse_test_topics("csrerank/en-qa/train", "mmarco/de/train")
    for switched in ("csrerank/en-qa/validation/muse/en-de", "csrerank/en-qa/validation/ml-cs"):
        with pytest.raises(
            InputError,
            match=f"^--validation {switched}: is switched already; give the plain csrerank/en-qa/validation, whose texts validation switches itself$",
        ):
            refuse_test_topics("csrerank/en-qa/train", switched)
    for trained in ("csrerank/msmarco/train", own):
        with pytest.raises(InputError, match="^--validation csrerank/msmarco/train: its topics are those of --dataset; give others"):
            refuse_test_topics(trained, "csrerank/msmarco/train")


def test_no_topic_trains_and_chooses(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--validation toy-training: its topic 'q2' is one of --dataset too; give a dataset with topics of its own$"):
        validation_of(dataset, {"q2", "q4"}, tmp_path, switched_policy(), Lexicons(), True)


@needs_real_data
@needs_freedict
@pytest.mark.slow
def test_a_real_training_with_validation(toy_encoder: Path, tmp_path: Path) -> None:
    """On the real questions, switched by the real lexicons: held-out words stay English in training, and validation measures all three tracks."""
    from csrerank.training.job import Inputs, Settings, train

    settings = Settings(
        negatives=parse_shares("bm25=2,article,random"), epochs=1, topics=24, batch=8, learning_rate=1e-3, max_length=96, query_tokens=32, precision="fp32",
        evaluate_every=2, patience=5,
    )  # fmt: skip
    result = train(
        "csrerank/en-qa/train/ml-cs", toy_encoder, tmp_path / "out", settings, Inputs(validation="csrerank/en-qa/validation"), cache=tmp_path, quiet=True
    )
    assert result.steps == 3 and set(result.validation) == {"en-en", "en-cs", "cs-cs", "mean"} and all(0 < value < 1 for value in result.validation.values())
    record = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert record["made from"]["lexicons"] != {"/".join(name): Lexicons().find(*name).fingerprint for name in Policy.load("ml-cs").lexicons()}
    assert set(record["negatives drawn"]) == {"bm25", "article", "random"} and sum(record["negatives drawn"].values()) == 24 * 4
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| held-out words | 10% of the lemmas: never switched in training" in card and "csrerank/en-qa/validation; cs: every word switched" in card
    assert "CC-BY-SA" in card.replace(" ", "-") and record["licences of the lexicons"]
    assert (tmp_path / "out" / "curves.tsv").read_text().startswith("step\teval_cs-cs\teval_en-cs\teval_en-en\teval_mean\t")


# The objectives learn


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_learns(objective: str, toy_encoder: Path, tmp_path: Path, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is told from what does not, on texts that were not trained on."""
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings as Scoring
    from csrerank.training.job import Settings, train

    texts = [Sentence(f"d{number}", f"sleep {number}" if number in (0, 1, 2, 3, 13) else f"{number} mountains", "") for number in range(LENGTH)]
    monkeypatch.setattr(Collection, "texts", lambda self, names: {name: texts[int(name[1:])].text for name in names})
    settings = Settings(
        objective=objective, negatives=(("random", 1.0),), negatives_per_topic=2, epochs=60, batch=8, learning_rate=3e-3, max_length=48, query_tokens=24, precision="fp32",
        evaluate_every=1000,
    )  # fmt: skip
    train(dataset, toy_encoder, tmp_path / "out", settings, cache=tmp_path, quiet=True)
    scores = Reranker.load(tmp_path / "out", Scoring(64, 24, precision="fp32")).score("the whale of number 7", ["99 mountains", "sleep 99", "55 mountains"])
    assert scores[1] > max(scores[0], scores[2]) + 1
    assert objective != "pointwise" or scores[1] > 0 > max(scores[0], scores[2])


def test_translations_stand_in_the_place_of_texts(tmp_path: Path) -> None:
    from csrerank.errors import InputError
    from csrerank.training.translations import read_translations, translated

    path = tmp_path / "translations.jsonl"
    rows = [("1", "query", "warum?"), ("d", "passage", "eins"), ("d", "passage", "zwei"), ("1", "passage", "drei")]
    path.write_text("".join(json.dumps({"id": name, "side": side, "text": text}) + "\n" for name, side, text in rows))
    found = read_translations(path)
    assert found == {("query", "1"): ("warum?",), ("passage", "d"): ("eins", "zwei"), ("passage", "1"): ("drei",)}
    assert translated(found, "query", "1", 1, 5) == "warum?" and translated(found, "query", "d", 1, 5) is None
    drawn = [translated(found, "passage", "d", 1, epoch) for epoch in range(200)]
    assert 60 < drawn.count("eins") < 140 and drawn == [translated(found, "passage", "d", 1, epoch) for epoch in range(200)]
    for line, told in (
        ("{", "not JSON"),
        ('["a"]', "one object"),
        ('{"id": "1", "side": "left", "text": "x"}', "'left'"),
        ('{"id": "1", "side": "query", "text": " "}', "empty"),
    ):
        path.write_text(json.dumps({"id": "1", "side": "query", "text": "x"}) + "\n" + line + "\n")
        with pytest.raises(InputError, match=f"translations.jsonl:2: .*{told}"):
            read_translations(path)


def test_a_collection_takes_translations_unswitched(dataset: str, given: dict[tuple[str, str, str], Any]) -> None:
    from csrerank.errors import InputError

    topic = next(iter(Collection(dataset, Lexicons(given)).relevant))
    made = Collection(dataset, Lexicons(given), {("query", topic): ("the whale",)})
    made.policy = policy(1.0)
    assert made.switched(made.topics[topic], topic, "query", 0) == "the whale"
    assert made.switched("the whale", topic, "passage", 0) != "the whale"
    assert Collection(dataset, Lexicons(given)).translated == {} and made.translated == {"query": 1, "passage": 0}
    whole = {("query", "q3"): ("a", "b"), ("query", "q4"): ("c",), ("passage", "d5"): ("d",), ("passage", "d13"): ("e",), ("passage", "d39"): ("f", "g")}
    assert Collection(dataset, Lexicons(given), whole).translated == {"query": 1, "passage": 3}  # q4 has nothing relevant
    assert Collection(dataset, Lexicons(given), {("passage", "d5"): ("d",)}).translated == {"query": 0, "passage": 1}
    for wrong, message in (
        (
            {("query", "none"): ("x",), ("query", "q1"): ("x",)},
            "--translations: 1 of its 2 query ids are not in toy-training ('none'); give the file that belongs to --dataset",
        ),
        ({("query", "q1"): ("x",), ("passage", "q1"): ("x",)}, "--translations: 1 of its 1 passage ids are not in toy-training ('q1'); give the file"),
    ):
        with pytest.raises(InputError) as raised:
            Collection(dataset, Lexicons(given), wrong)
        assert message in str(raised.value)


def test_the_head_learns_in_fp32(toy_encoder: Path, tmp_path: Path) -> None:
    """Under bf16, too; the encoder's layers do not. What is learnt is what is scored."""
    import torch
    from transformers import TrainingArguments

    from csrerank.models.backbones import load_backbone
    from csrerank.models.batching import PairEncoder
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings as Scoring
    from csrerank.training import trainer

    model, tokenizer = load_backbone(toy_encoder)
    model.eval()
    batch = [Group("t", ["a", "b"], "the whale", ["whale sleep", "12 mountains"], [])]
    given = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True, report_to=[], disable_tqdm=True)
    running = trainer.ranking_trainer(trainer.Loss(pointwise), None, model=model, args=given)
    kinds: dict[str, set[Any]] = {"head": set(), "layer": set()}
    hooks = [
        model.classifier.out_proj.register_forward_hook(lambda module, inputs, output: kinds["head"].add(output.dtype)),
        model.base_model.encoder.layer[0].attention.self.query.register_forward_hook(lambda module, inputs, output: kinds["layer"].add(output.dtype)),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        value, logits = running.compute_loss(model, trainer.collator(PairEncoder(tokenizer, 48, 24), 1000)(batch), return_outputs=True)
    value.backward()
    assert kinds == {"head": {torch.float32}, "layer": {torch.bfloat16}} and model.classifier.out_proj.weight.grad.abs().sum() > 0
    assert "forward" not in vars(model.classifier)
    for hook in hooks:
        hook.remove()
    exact, scores, own = (Reranker(model, tokenizer, Scoring(48, 24, precision=precision), device="cpu") for precision in ("fp32", "bf16", "bf16"))
    own._computing = lambda precision: lambda rows: own._padded_logits(rows, precision)  # type: ignore[method-assign]
    right, engine, plain = (ranker.score("the whale", batch[0].passages) for ranker in (exact, scores, own))
    assert logits[0].tolist() == pytest.approx(plain.tolist(), rel=1e-6)  # training and scoring by the model's own code: the same head
    assert abs(engine - right).max() <= 2 * abs(plain - right).max()  # the engine rounds elsewhere, and no more


@pytest.mark.parametrize("kind", ENCODERS)
def test_frozen_layers_get_no_gradient(kind: str, tmp_path: Path) -> None:
    """Nor do embeddings, those of DeBERTa's relative positions among them, which lie beside its layers; the layers above, head and mean layer learn."""
    from csrerank.training.job import Settings, _model

    model, _ = _model(build_encoder(tmp_path, kind), Settings(max_length=64, query_tokens=16, freeze_layers=1))
    free = {name.removeprefix(f"{model.base_model_prefix}.") for name, weights in model.named_parameters() if weights.requires_grad}
    apart = [
        name
        for name in free
        if name.startswith(("embeddings.", "encoder.")) and not name.startswith(("encoder.layer.1.", "encoder.layer.2.", "encoder.layer.3."))
    ]
    assert not apart and {name.split(".")[2] for name in free if name.startswith("encoder.layer.")} == {"1", "2", "3"}
    assert [name for name in free if name.startswith("classifier.")]


def test_layers_that_cannot_be_frozen_are_refused(toy_encoder: Path) -> None:
    from csrerank.training.job import Settings, _model

    for wrong in (
        Settings(max_length=64, query_tokens=16, freeze_layers=99),
        Settings(max_length=64, query_tokens=16, freeze_layers=1, freeze_embeddings=False),
    ):
        with pytest.raises(InputError, match="--freeze-layers"):
            _model(toy_encoder, wrong)


# csrerank.training.translating


def test_a_program_translates_line_by_line(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.training import translating
    from csrerank.training.translations import read_translations

    monkeypatch.setattr(translating, "_BLOCK", 7)
    output = tmp_path / "upper.jsonl"
    counts = translating.translate_dataset(dataset, "tr a-z A-Z", output, quiet=True)
    collection = Collection(dataset, Lexicons())
    assert counts == {"query": len(collection.relevant), "passage": LENGTH}
    found = read_translations(output)
    assert found["passage", "d3"] == (collection.texts(["d3"])["d3"].upper(),)
    assert all(found["query", topic] == (collection.topics[topic].upper(),) for topic in collection.relevant)
    whole = output.read_bytes()

    # Killed in the third call of the program, within the last line of the second's: the next job begins with the second call.
    calls: list[int] = []
    program = translating._translated

    def killed(words: Sequence[str], lines: Sequence[str]) -> list[str]:
        calls.append(len(lines))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return program(words, lines)

    monkeypatch.setattr(translating, "_translated", killed)
    again = tmp_path / "again.jsonl"
    with pytest.raises(KeyboardInterrupt):
        translating.translate_dataset(dataset, "tr a-z A-Z", again, quiet=True)
    part = tmp_path / "again.jsonl.part"
    assert not again.exists()
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(InputError, match="begun by another command or version"):
        translating.translate_dataset(dataset, "cat", again, quiet=True)
    calls[:] = [0, 0, 0]
    translating.translate_dataset(dataset, "tr a-z A-Z", again, quiet=True)
    assert again.read_bytes() == whole and not part.exists()
    assert calls[3:] == [7] * 5 + [2]  # 44 texts, of which the first call's 7 were kept

    monkeypatch.setattr(translating, "_translated", program)
    for command, told in (
        ("", "--command is empty"), ("tr 'a", "no closing quotation"), ("tr -d a-zA-Z0-9", "every translation is empty"), ("no-such-program", "cannot be run"), ("head -n 2", "gave 2 lines for 13, every other of them empty"), ("true", "gave 0 lines for 13"), ("grep .", "gave 7 lines for 13"), ("false", "failed with exit code 1"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            translating.translate_dataset(dataset, command, tmp_path / "never.jsonl", quiet=True)
        assert not list(tmp_path.glob("never*"))  # nothing stands in the way of a mended command
    (tmp_path / "never.jsonl.part").write_bytes(b"mine")
    with pytest.raises(InputError, match="begun by another command"):
        translating.translate_dataset(dataset, "cat", tmp_path / "never.jsonl", quiet=True)
    assert (tmp_path / "never.jsonl.part").read_bytes() == b"mine"
