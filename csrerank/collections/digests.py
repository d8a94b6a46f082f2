"""What tells the texts of a collection from others of the same name: SHA-256 over ids and texts, in the collection's order."""

import hashlib
from collections.abc import Iterable
from functools import cache


@cache
def documents_digest(dataset_id: str) -> str:
    """SHA-256 of a dataset's documents. Kept in this process: a matrix asks for each of its models."""
    from csrerank.collections.catalogue import load
    from csrerank.collections.texts import default_text

    return digest((document.doc_id, default_text(document, dataset_id)) for document in load(dataset_id).docs_iter())


@cache
def topics_digest(dataset_id: str) -> str:
    """SHA-256 of a dataset's topics, kept likewise."""
    from csrerank.collections.catalogue import load
    from csrerank.collections.texts import default_text

    return digest((query.query_id, default_text(query, dataset_id)) for query in load(dataset_id).queries_iter())


def digest(records: Iterable[Iterable[str]]) -> str:
    """SHA-256 over records of strings."""
    found = hashlib.sha256()
    for record in records:
        found.update(("\x1f".join(record) + "\x1e").encode("utf-8", "surrogatepass"))
    return found.hexdigest()
