"""The unit of work, whoever does it: one shard, read, switched, counted and written under its final name, with a note of what it holds."""

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from typing import Any, NamedTuple

from csrerank.codeswitch import Lexicons, Switch
from csrerank.collections.sampling import uniform
from csrerank.errors import InputError
from csrerank.files import atomic
from csrerank.switching import parquet, rates
from csrerank.switching.formats import FORMATS
from csrerank.switching.job import SIDES, Job, Shard, spelt
from csrerank.switching.sources import Source

EXAMPLES = 5  # records a side that a data card shows
EXCERPT = 400  # characters of a text that it shows
NOTES = ".csrerank-progress"  # the folder of the notes, while a job runs


class _Opened(NamedTuple):
    source: Source
    lexicons: Lexicons


_kept: dict[tuple[Any, ...], _Opened] = {}


def forget() -> None:
    """Drop what is kept from one shard to the next: another job may come after its input or lexicons were written anew."""
    _kept.clear()
    parquet.forget()


def _opened(job: Job, token: str) -> _Opened:
    """The source and the lexicons, kept from one shard to the next. Raises ``InputError`` where packages or lexicons are not those it began with."""
    key = (token, job.dataset, job.input, job.policy.fingerprint, *sorted(job.lexicons.items()))
    if key not in _kept:
        for package, begun in job.versions.items():
            if version(package) != begun:
                raise InputError(f"{package} {version(package)} is installed here, and the job began with {begun}; install the same on all machines")
        lexicons = Lexicons()
        for name, fingerprint in job.lexicons.items():
            found = lexicons.find(*name).fingerprint
            if found != fingerprint:
                raise InputError(
                    f"lexicon {spelt(name)} differs from the one that the job began with ({found}, then {fingerprint}); compile the same on all machines"
                )
        forget()
        _kept[key] = _Opened(job.source(), lexicons)
    return _kept[key]


def write_shard(job: Job, shard: Shard, rows: Iterable[Any] | None = None, token: str = "") -> dict[str, Any]:
    """Write the shard's files and its note, each whole by rename; gives the note: ``files`` (SHA-256, bytes and records by path), ``counts``, ``examples``.

    :param rows: its records, where the caller has them; otherwise they are read here.
    :param token: another for every job, where this process may outlive the job; otherwise ``forget`` between jobs is enough.
    :raises InputError: for a record that cannot be switched or written.
    """
    source, lexicons = _opened(job, token)
    with _uncollected():
        originals, records, switches = _switched(job, shard, source.rows(shard.part, shard.start, shard.stop) if rows is None else rows, lexicons)
        if len(records) != shard.stop - shard.start:
            raise InputError(
                f"{source.name}: {len(records)} {shard.part} from place {shard.start}, where {shard.stop - shard.start} were announced; has it changed since?"
            )
        made = FORMATS[job.format](records, switches if job.records else None, source.columns(shard.part))
        note: dict[str, Any] = {
            "files": {},
            "counts": dict(sorted(_counts(job, shard, originals, switches, lexicons).items())),
            "examples": _examples(job, SIDES[shard.part], originals, switches),
        }
    for suffix, content in made.items():
        note["files"][shard.stem + suffix] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "records": len(records)}
        with atomic(job.output / (shard.stem + suffix)) as file:
            file.write(content)
    with atomic(job.output / NOTES / note_name(shard)) as file:
        file.write(json.dumps(note, ensure_ascii=False).encode())
    return note


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which would go through all the switches of the shard again and again: that takes longer than switching."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _switched(job: Job, shard: Shard, rows: Iterable[Any], lexicons: Lexicons) -> tuple[list[Any], list[Any], list[dict[str, list[Switch]]]]:
    """The records as they are, switched, and the switches."""
    from csrerank.collections.switched import switched_record

    originals, records, switches = [], [], []
    for record in rows:
        switched, found = switched_record(record, SIDES[shard.part], job.policy, lexicons, job.seed, job.epoch)
        originals.append(record)
        records.append(switched)
        switches.append(found)
    return originals, records, switches


def note_name(shard: Shard) -> str:
    """The file of a shard's note."""
    return shard.stem.replace("/", "-") + ".json"


def _counts(job: Job, shard: Shard, originals: Sequence[Any], switches: Sequence[Mapping[str, Sequence[Switch]]], lexicons: Lexicons) -> Counter[str]:
    side = SIDES[shard.part]
    fields = tuple(switches[0]) if switches else ()
    texts = ([getattr(record, field) for field in fields] for record in originals)
    counts = rates.count(texts, [list(found.values()) for found in switches], job.policy.side(side))
    sampled = islice(originals, max(rates.SAMPLED - shard.start, 0))
    identified = ((record[0] if field == "text" else f"{record[0]}/{field}", getattr(record, field)) for record in sampled for field in fields)
    return counts + rates.count_decisions(identified, job.policy, side, lexicons, job.seed, job.epoch)


def _examples(job: Job, side: str, originals: Sequence[Any], switches: Sequence[Mapping[str, Sequence[Switch]]]) -> list[dict[str, Any]]:
    """The records with a switch whose ids draw the lowest numbers; a draw by id, so that the choice does not depend on the order."""
    drawn = ((uniform("example", job.seed, side, record[0]), place) for place, record in enumerate(originals) if switches[place]["text"])
    return [{"draw": draw, "id": originals[place][0], **_excerpt(originals[place].text, switches[place]["text"])} for draw, place in sorted(drawn)[:EXAMPLES]]


def _excerpt(text: str, switches: Sequence[Switch]) -> dict[str, Any]:
    """The beginning of a text, and its switches."""
    end = min([len(text), EXCERPT, *(switch.start for switch in switches if switch.end > EXCERPT)])
    kept = [switch for switch in switches if switch.end <= end]
    return {"original": text[:end], "cut": end < len(text), "switches": [list(switch) for switch in kept]}


def fewest(examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The examples of several shards that drew the lowest numbers."""
    return sorted(examples, key=lambda example: (example["draw"], example["id"]))[:EXAMPLES]
