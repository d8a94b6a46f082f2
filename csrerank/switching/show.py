"""``csrerank switch --show``: a few topics with a relevant passage each, their switched words marked, and below them what became what and by which lexicon."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from csrerank.codeswitch import Lexicons, Switch
from csrerank.collections.switched import switched_record
from csrerank.errors import InputError
from csrerank.switching.job import SIDES, Request
from csrerank.switching.marks import coloured, colours_of, marked, shown
from csrerank.switching.sources import Source


def shown_pairs(request: Request, count: int, colour: bool) -> Iterator[str]:
    """Lines: the first ``count`` topics that have a relevant document, each with its first; records alone where there are no judgements, or no texts of one kind.

    Raises ``InputError`` where there is nothing to show.
    """
    source, lexicons = request.source(), Lexicons()
    colours = colours_of(lang for _, _, lang in request.policy.lexicons()) if colour else None
    empty = True
    for group in _groups(source, count):
        for part, record in group:
            empty = False
            switched, switches = switched_record(record, SIDES[part], request.policy, lexicons, request.seed, request.epoch)
            yield f"{SIDES[part]} {shown(record[0])}"
            yield f"  {marked(record.text, switches['text'], colours)}"
            yield from (f"    {_explained(switch, colours)}" for switch in switches["text"])
        yield ""
    if empty:
        raise InputError(f"{source.name}: neither docs nor queries to show")


def _groups(source: Source, count: int) -> Iterator[list[tuple[str, Any]]]:
    """Topic and document, or one of them."""
    parts = source.parts()
    if {"docs", "queries", "qrels"} <= set(parts):
        pairs = _pairs(source, count)
        queries, docs = source.found("queries", list(pairs)), source.found("docs", list(pairs.values()))
        if not pairs:
            raise InputError(f"{source.name}: its qrels give no document a grade above 0; with --output they need none, to look they need one")
        there = [(topic, doc) for topic, doc in pairs.items() if topic in queries and doc in docs]
        if not there:
            topic, doc = next(iter(pairs.items()))
            raise InputError(f"{source.name}: its qrels name topic {topic!r} with document {doc!r}, which are not both in it; check the ids in the qrels")
        for topic, doc in there:
            yield [("queries", queries[topic]), ("docs", docs[doc])]
    else:
        part = "docs" if "docs" in parts else "queries"
        if part in parts:
            yield from ([(part, record)] for record in islice(source.rows(part, 0, count), count))


def _pairs(source: Source, count: int) -> dict[str, str]:
    """The first relevant document of the first topics that have one."""
    pairs: dict[str, str] = {}
    for topic, doc, grade in source.qrels():
        if grade > 0 and topic not in pairs:
            pairs[topic] = doc
            if len(pairs) == count:
                break
    return pairs


def _explained(switch: Switch, colours: dict[str, int] | None) -> str:
    replacement = shown(switch.replacement)
    if colours is not None:
        replacement = coloured(replacement, colours[switch.lang])
    return f"{shown(switch.original)} \u2192 {replacement} ({switch.lang}, {switch.source}, rank {switch.rank})"
