"""Clusters of topics: which article each topic of a collection asks about, for statistics that must not take such topics for independent."""

from collections.abc import Iterable, Mapping

from csrerank.errors import InputError


def clusters_of(dataset_id: str, topics: Iterable[str]) -> dict[str, str] | None:
    """Topic -> article: XQuAD-R's article, en-qa's article title, the demo collection's subject; None for a collection whose topics share no articles.

    XQuAD-R's topic ids do not name their article: it is that of the relevant documents. Under ``csrerank/en-qa/shifts`` a passage is its own article.

    InputError: the dataset does not exist, or has no such topic.
    """
    from csrerank.collections import demo, en_qa, xquad_r
    from csrerank.collections.catalogue import PREFIX, load

    load(dataset_id)
    prefix, _, rest = dataset_id.partition("/")
    collection, _, part = rest.partition("/")
    articles: Mapping[str, str]
    if prefix != PREFIX or collection not in (demo.NAME, en_qa.NAME, xquad_r.NAME):
        return None
    if collection == en_qa.NAME:
        sources = en_qa.SHIFTS if part.startswith("shifts/") else en_qa.CORE
        articles = {question.id: question.passage.article for question in en_qa.questions(sources).questions}
    else:
        # A judgement's document is <article>-<paragraph>... in XQuAD-R; the demo's topics are <subject>-q1, <subject>-q2.
        from csrerank.evaluation.scoring import dataset_qrels

        judged = dataset_qrels(dataset_id)
        articles = {topic: topic.rpartition("-")[0] if collection == demo.NAME else next(iter(grades)).partition("-")[0] for topic, grades in judged.items()}
    found = {}
    for topic in topics:
        if topic not in articles:
            raise InputError(f"{dataset_id} has no topic {topic!r}; name the collection that the run was made from")
        found[topic] = articles[topic]
    return found
