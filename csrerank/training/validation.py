"""Validation runs: topics of validation articles re-ranked in English and switched, held-out words included; never a test topic."""

from collections.abc import Callable, Mapping, Sequence
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
TEST_COLLECTIONS = ("csrerank/xquad-r/", "csrerank/mmarco/", "csrerank/xor-retrieve/")  # what results are reported on


def refuse_test_topics(dataset_id: str) -> None:
    """Raise ``InputError`` for a dataset whose topics are for testing: what they choose is measured too kindly by them."""
    if dataset_id.startswith(TEST_COLLECTIONS) or "test" in dataset_id.split("/"):
        raise InputError(f"--validation {dataset_id}: test topics must not choose a checkpoint; give validation topics, as csrerank/en-qa/validation")


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


def validation_of(dataset_id: str, cache: Path, policy: Policy, lexicons: Lexicons, quiet: bool) -> Validation:
    """Validation over ``TOPICS`` topics of a plain dataset, fixed by a hash, with BM25's top ``DEPTH``. Raises ``InputError`` for test topics."""
    from csrerank.training.collection import Collection, read_candidates
    from csrerank.training.groups import chosen

    refuse_test_topics(dataset_id)
    collection = Collection(dataset_id, lexicons)
    topics = {topic: collection.topics[topic] for topic in chosen(collection.relevant, TOPICS)}
    candidates = read_candidates(collection.run("bm25", 100, cache, None, quiet), topics, DEPTH)
    texts = collection.texts(document for documents in candidates.values() for document in documents)
    return Validation(topics, candidates, texts, collection.relevant, policy, lexicons)
