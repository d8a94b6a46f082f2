"""The tracks of the paper's tables: MoIR, CLIR and MLIR pairs of mMARCO as Litschko et al. (2023) have them, and the like of them for XQuAD-R."""

import re
from typing import NamedTuple

from csrerank.errors import InputError

GROUPS = ("MoIR seen", "CLIR seen", "MLIR seen", "MoIR unseen", "CLIR unseen", "MLIR unseen")
_PAIRS = {
    "mmarco": {
        "MoIR seen": "en-en de-de ru-ru ar-ar nl-nl it-it",
        "CLIR seen": "en-de en-it en-ar en-ru de-it de-nl de-ru ar-it ar-ru",
        "MLIR seen": "x6-en en-x6 x6-x6",
        "MoIR unseen": "fr-fr id-id es-es pt-pt zh-zh",
        "CLIR unseen": "fr-en id-nl es-fr en-pt de-vi it-zh fr-pt id-vi pt-zh",
        "MLIR unseen": "x14-en en-x14 x14-x14",
    },
    # Seen are its languages that training saw. The unseen pairs follow the paper's kinds: three with an unseen query language, three with an unseen document
    # language, three with both. x11 mixes seen and unseen.
    "xquad-r": {
        "MoIR seen": "en-en de-de ru-ru ar-ar",
        "CLIR seen": "en-de en-ar en-ru de-ru ar-ru",
        "MLIR seen": "x4-en en-x4 x4-x4",
        "MoIR unseen": "es-es tr-tr zh-zh vi-vi el-el hi-hi th-th",
        "CLIR unseen": "es-en hi-de zh-ru en-tr de-vi ar-el es-th tr-zh vi-hi",
        "MLIR unseen": "x11-en en-x11 x11-x11",
    },
}
# What a machine without a GPU measures.
SMALL = {
    "xquad-r": ["en-en", "de-de", "ru-ru", "ar-ar", "en-de", "en-ar", "en-ru", "de-ru", "ar-ru", "x4-en", "en-x4", "x4-x4"],
    "mmarco": ["en-en", "en-de", "en-ar", "de-ru", "ar-ru", "en-x6"],
}
_SUFFIX = {"mmarco": "/dev/small", "xquad-r": ""}
COLLECTIONS = tuple(_PAIRS)


class Track(NamedTuple):
    """A pair of query and document languages, its ir_datasets id, and the group of the paper's table that it belongs to."""

    name: str
    dataset: str
    group: str


def tracks(collection: str, names: list[str] | None = None) -> list[Track]:
    """The tracks of a collection in the tables' order, all of the paper's or those named, which may be others of the collection: they come last. Raises
    ``InputError`` for an unknown one.
    """
    import ir_datasets

    from csrerank.collections import register
    from csrerank.collections.catalogue import PREFIX

    if collection not in _PAIRS:
        raise InputError(f"--collection {collection}: known are {', '.join(COLLECTIONS)}")
    known = {name: group for group, listed in _PAIRS[collection].items() for name in listed.split()}
    register()
    papers = " ".join(known)
    known |= {
        name: _group(name, collection)
        for name in names or ()
        if name not in known and re.fullmatch(r"[a-z0-9]+-[a-z0-9]+", name) and f"{PREFIX}/{collection}/{name}{_SUFFIX[collection]}" in ir_datasets.registry
    }
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"--tracks {unknown[0]}: {collection} has no such track; those of the paper's tables are {papers}")
    return [Track(name, f"{PREFIX}/{collection}/{name}{_SUFFIX[collection]}", group) for name, group in known.items() if names is None or name in names]


def _group(name: str, collection: str) -> str:
    """The group of a track that is not in the paper's tables."""
    query, document = name.split("-")
    seen = {lang for pair in _PAIRS[collection]["MoIR seen"].split() for lang in pair.split("-")} | {f"x{size}" for size in (4, 6)}
    kind = "MLIR" if "x" in (query[0], document[0]) else "MoIR" if query == document else "CLIR"
    return f"{kind} {'seen' if {query, document} <= seen else 'unseen'}"
