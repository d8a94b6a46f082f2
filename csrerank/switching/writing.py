"""``csrerank switch --output``: a code-switched collection as a folder of shards with judgements, data card, manifest and provenance."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.codeswitch import Lexicons
from csrerank.errors import InputError
from csrerank.files import atomic, write_lines
from csrerank.metadata import describe, dumped
from csrerank.switching import card, folder
from csrerank.switching.engines import Engine
from csrerank.switching.job import SHARD_SIZE, SIDES, Job, Request, Shard, chosen_parts, fingerprint, lexicon_fingerprints, package_versions
from csrerank.switching.shards import forget
from csrerank.switching.sources import Source
from csrerank.trec import write_qrels

OTHERS = {"qrels": "qrels.txt", "docpairs": "docpairs.tsv"}
PROVENANCE = "provenance.yaml"


class Report(NamedTuple):
    """What was written: records by part, how many shards there are and how many of them were there already, words (or characters) and how many switched."""

    records: dict[str, int]
    shards: int
    kept: int
    words: int
    switched: int

    def summary(self, output: Path) -> str:
        """One line for people."""
        parts = ", ".join(f"{count} {part}" for part, count in self.records.items())
        share = f", {self.switched / self.words:.1%} of the words switched" if self.words else ""
        kept = f"; {self.kept} of {self.shards} shards were there already" if self.kept else ""
        return f"{output}: {parts}{share}{kept}"


def planned(
    request: Request, output: Path, format: str, records: bool = True, shard_size: int = SHARD_SIZE, parts: tuple[str, ...] | None = None, quiet: bool = False
) -> Job:
    """The job that writes what is requested; finds the lexicons, and checks that the source has the ``parts`` (by default all that it has).

    Raises ``InputError`` where a lexicon or a part is missing.
    """
    source = request.source()
    if request.input is not None and output.resolve() == Path(request.input).resolve():
        raise InputError(f"{output}: --output would write into --input; give another folder")
    chosen = chosen_parts(source, parts)
    folder_path = os.path.abspath(request.input) if request.input is not None else None
    policies = (request.policy, *source.policies())
    lexicons, versions = lexicon_fingerprints(policies, Lexicons(quiet=quiet)), package_versions(policies, format)
    return Job(request.dataset, folder_path, request.policy, request.seed, request.epoch, format, records, chosen, shard_size, lexicons, versions, output)


def write_collection(job: Job, engine: Engine, quiet: bool = False, method: Mapping[str, Any] | None = None) -> Report:
    """Write the collection to ``job.output``; a job that was killed goes on where it was, whichever engine began it.

    :param method: what the provenance says besides about how it was written.
    :raises InputError: where the folder holds something else, or a record cannot be switched.
    """
    started = datetime.now(UTC)
    forget()
    source = job.source()
    contents = source.contents(quiet)
    counts = {part: source.count(part) for part in SIDES if part in job.parts}
    shards = list(job.shards(counts))
    qrels = _judgements(source) if "qrels" in job.parts else {}  # before the shards: bad ones are to be refused at once
    settings = job.settings(contents)
    with folder.claimed(job.output, settings):
        notes = folder.notes_of(job.output, shards)
        report = Report(counts, len(shards), len(notes), 0, 0)
        missing = [shard for shard in shards if shard not in notes]
        whole = not missing and folder.is_whole(job.output)
        if not whole:
            folder.set_aside(job.output)
            for part in counts:
                (job.output / part).mkdir(exist_ok=True)
            written = engine(job, missing, partial(_held, source)) if missing else iter(())
            notes |= _progress(written, shards, len(missing), quiet)
            notes = {shard: notes[shard] for shard in shards}
            others = _write_others(job, source, contents, notes, qrels)
        if missing or not (job.output / PROVENANCE).exists():
            how = {
                "name": "csrerank switch",
                "fingerprint": fingerprint(settings),
                "shards": len(shards),
                "kept": report.kept,
                **(method or {}),
                "settings": settings,
            }
            _write(job.output / PROVENANCE, dumped(describe({"code-switching": how}, contents, started, "csrerank-switch")))
        if not whole:
            folder.write_manifest(job.output, settings, notes, {name: _entry(job.output / name) for name in others})
    totals = sum((Counter(note["counts"]) for note in notes.values()), Counter[str]())
    return report._replace(words=totals["words"], switched=totals["switched"])


def _held(source: Source, shard: Shard) -> list[Any] | None:
    return list(source.rows(shard.part, shard.start, shard.stop)) if source.held(shard.part) else None


def _progress(written: Iterable[tuple[Shard, dict[str, Any]]], shards: list[Shard], missing: int, quiet: bool) -> dict[Shard, dict[str, Any]]:
    from tqdm import tqdm

    notes = {}
    with tqdm(total=len(shards), initial=len(shards) - missing, unit="shard", desc="switching", disable=quiet or not sys.stderr.isatty()) as bar:
        for shard, note in written:
            notes[shard] = note
            bar.update()
    return notes


def _judgements(source: Source) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for topic, doc, grade in source.qrels():
        qrels.setdefault(topic, {})[doc] = grade
    return qrels


def _write_others(
    job: Job, source: Source, contents: Mapping[str, Any], notes: Mapping[Shard, Mapping[str, Any]], qrels: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Write judgements, pairs and the data card, and give the names of the files."""
    lines = {}
    if "qrels" in job.parts:
        lines["qrels"] = write_qrels(job.output / OTHERS["qrels"], qrels)
    if "docpairs" in job.parts:
        pairs = ("\t".join(pair).encode() + b"\n" for pair in source.docpairs())
        lines["docpairs"] = write_lines(pairs, job.output / OTHERS["docpairs"])
    content = card.card(job, contents, Lexicons(), notes, lines)
    _write(job.output / "card.yaml", card.as_yaml(content))
    _write(job.output / "README.md", card.as_markdown(content, job))
    return [*(OTHERS[part] for part in lines), "card.yaml", "README.md"]


def _write(target: Path, content: bytes) -> None:
    with atomic(target) as file:
        file.write(content)


def _entry(path: Path) -> dict[str, Any]:
    from csrerank.collections.texts import file_hash

    return {"sha256": file_hash(path), "bytes": path.stat().st_size}
