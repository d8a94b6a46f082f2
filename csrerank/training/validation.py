"""Validation runs: topics of validation articles re-ranked in English and switched, held-out words included; never a test topic."""

import hashlib
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from csrerank.codeswitch import Lexicons, Policy, switch
from csrerank.codeswitch.policy import Rule, Side
from csrerank.errors import InputError
from csrerank.languages import SEEN
from csrerank.trec import TopicRun

TOPICS, DEPTH = 100, 20
MEASURE = "RR@10"
# Query and passage: English as it stands, or every word switched that a lexicon has.
TRACKS = {"en-en": (False, False), "en-cs": (False, True), "cs-cs": (True, True)}
TEST_COLLECTIONS = ("csrerank/xquad-r", "csrerank/mmarco", "csrerank/xor-retrieve")  # what results are reported on
_TEST_PART = re.compile(r"(dev|test|eval)\d*(-[a-z0-9]+)?|trec-dl.*", re.IGNORECASE)


def is_for_testing(dataset_id: str) -> bool:
    """Whether results are reported on a dataset's topics: those of our test collections, and every part of another that is called dev, test or eval (with a
    number or letter behind it), or is one of TREC's Deep Learning tracks.
    """
    parts = dataset_id.split("/")
    return "/".join(parts[:2]) in TEST_COLLECTIONS or any(_TEST_PART.fullmatch(part) for part in parts)


def refuse_test_topics(dataset_id: str, validation_id: str | None) -> None:
    """Raise ``InputError`` where topics for testing would train, or choose a checkpoint: results on them would be too kind. So it does for a validation dataset
    that is switched already, or the training's own.
    """
    from csrerank.collections.switched import recipe

    trained, chosen = recipe(dataset_id), recipe(validation_id) if validation_id else None
    plain = trained.base if trained else dataset_id  # a policy's file may lie anywhere
    if is_for_testing(plain):
        raise InputError(f"--dataset {dataset_id}: test topics must not train; give training topics, as csrerank/en-qa/train/ml-cs")
    if not validation_id:
        return
    if chosen:
        raise InputError(f"--validation {validation_id}: is switched already; give the plain {chosen.base}, whose texts validation switches itself")
    # mMARCO's topics are translations of MS MARCO's, those for testing among them.
    if is_for_testing(validation_id) or validation_id.split("/")[0] == "mmarco":
        raise InputError(f"--validation {validation_id}: test topics must not choose a checkpoint; give validation topics, as csrerank/en-qa/validation")
    if validation_id == plain:
        raise InputError(f"--validation {validation_id}: its topics are those of --dataset; give others, as csrerank/en-qa/validation")


def switched_policy(languages: Sequence[str] = SEEN[1:], lexicon: str = "open") -> Policy:
    """What validation texts are switched by: every word, each into a language of its own."""
    side = Side((Rule("multilingual", tuple((lang, 1.0) for lang in languages), 1.0, lexicon=lexicon),))
    return Policy("validation", side, side, "Every word switches, held-out ones too.")


class Validation:
    """Re-ranks the same candidates in each track. Candidates come from the English run, so the tracks differ in the texts alone.

    :param topics: topic -> English text.
    :param candidates: topic -> documents, first-stage order.
    :param texts: document -> English text.
    """

    def __init__(
        self, topics: Mapping[str, str], candidates: Mapping[str, Sequence[str]], texts: Mapping[str, str], relevant: Mapping[str, frozenset[str]], policy: Policy,
        lexicons: Lexicons, seed: int = 0, tracks: Sequence[str] = tuple(TRACKS),
    ) -> None:  # fmt: skip
        self.topics, self.candidates = topics, candidates
        self._qrels = {topic: dict.fromkeys(relevant[topic], 1) for topic in topics}
        self._pairs: dict[str, tuple[list[str], list[str]]] = {}
        switched = {name: switch(text, name, policy, lexicons, seed)[0] for name, text in texts.items()} if any(TRACKS[track][1] for track in tracks) else {}
        for track in tracks:
            query_switched, passage_switched = TRACKS[track]
            queries = {topic: switch(text, topic, policy, lexicons, seed, 0, "query")[0] if query_switched else text for topic, text in topics.items()}
            passages = switched if passage_switched else texts
            places = [(topic, document) for topic in topics for document in candidates.get(topic, ())]
            self._pairs[track] = [queries[topic] for topic, _ in places], [passages[document] for _, document in places]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pairs of texts in every track, and of the judgements."""
        content = [self._pairs, self._qrels, {topic: list(self.candidates.get(topic, ())) for topic in self.topics}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __call__(self, score: Callable[[Sequence[str], Sequence[str]], Any]) -> dict[str, float]:
        """RR@10 by track, and their ``mean``. ``score`` gives the scores of queries with passages, float32 [pairs]."""
        from csrerank.evaluation.measures import evaluate, parse_measure

        values = {}
        for track, (queries, passages) in self._pairs.items():
            scores, start, run = score(queries, passages), 0, []
            for topic in self.topics:
                documents = self.candidates.get(topic, ())
                own = scores[start : start + len(documents)]
                start += len(documents)
                best = sorted(range(len(documents)), key=lambda place: (-float(own[place]), place))
                # Strictly decreasing, so that ties keep the first stage's order in every scorer.
                run.append(TopicRun(topic, [documents[place] for place in best], [float(len(best) - rank) for rank in range(len(best))]))
            values[track] = evaluate((ranking for ranking in run if ranking.docs), self._qrels, [parse_measure(MEASURE)]).mean(MEASURE)
        return values | {"mean": sum(values.values()) / len(values)}


def validation_of(dataset_id: str, trained: Container[str], cache: Path, policy: Policy, lexicons: Lexicons, quiet: bool) -> Validation:
    """Validation over ``TOPICS`` topics of a plain dataset, fixed by a hash, with BM25's top ``DEPTH``. Raises ``InputError`` where one of them is ``trained``."""
    from csrerank.training.collection import Collection, read_candidates
    from csrerank.training.groups import chosen

    collection = Collection(dataset_id, lexicons)
    topics = {topic: collection.topics[topic] for topic in chosen(collection.relevant, TOPICS)}
    shared = next((topic for topic in topics if topic in trained), None)
    if shared is not None:
        raise InputError(f"--validation {dataset_id}: its topic {shared!r} is one of --dataset too; give a dataset with topics of its own")
    candidates = read_candidates(collection.run("bm25", 100, cache, None, quiet), topics, DEPTH)
    texts = collection.texts(document for documents in candidates.values() for document in documents)
    return Validation(topics, candidates, texts, collection.relevant, policy, lexicons)
