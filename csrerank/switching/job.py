"""What a collection of code-switched files is made from, and the shards it is written as: fixed windows of records in the collection's order."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.codeswitch import Lexicons, Policy
from csrerank.errors import InputError
from csrerank.switching.sources import Source, opened

FORMAT = 2  # of the folder; raised when the same settings would give other bytes
SIDES = {"queries": "query", "docs": "passage"}  # the parts that are switched, in the order in which they are written
PARTS = ("docs", "queries", "qrels", "docpairs")
SHARD_SIZE = 20_000
MOST_SHARDS = 100_000  # of a part, since their names have five digits


class Shard(NamedTuple):
    """Records ``start`` to ``stop`` (exclusive) of a part, ``docs`` or ``queries``."""

    part: str
    number: int
    start: int
    stop: int

    @property
    def stem(self) -> str:
        """The path in the output folder, without the format's suffix."""
        return f"{self.part}/part-{self.number:05}"


@dataclass(frozen=True)
class Job:
    """Everything that a shard's bytes depend on, and where they go; small, since every process is sent it.

    ``dataset`` is an ir_datasets id and ``input`` a folder of Parquet files; one of them is None. ``lexicons`` are fingerprints by (mix, source language,
    target language), those of the source's own policies among them; ``versions`` are of the packages that the bytes depend on. ``records`` tells whether the
    switches are written too.
    """

    dataset: str | None
    input: str | None
    policy: Policy
    seed: int
    epoch: int
    format: str
    records: bool
    parts: tuple[str, ...]
    shard_size: int
    lexicons: Mapping[tuple[str, str, str], str]
    versions: Mapping[str, str]
    output: Path

    def source(self) -> Source:
        """Where the records come from."""
        return opened(self.dataset, self.input)

    def settings(self, contents: Mapping[str, Any]) -> dict[str, Any]:
        """What the folder's content depends on, as its manifest spells it; ``contents`` says what the source holds."""
        return {
            "format version": FORMAT,
            **self.versions,
            **contents,
            "policy": {side: content for side, content in self.policy.plain().items() if side in ("query", "passage")},
            "lexicons": {spelt(name): fingerprint for name, fingerprint in self.lexicons.items()},
            "seed": self.seed,
            "epoch": self.epoch,
            "format": self.format,
            "switch records": self.records,
            "shard size": self.shard_size,
            "parts": list(self.parts),
        }

    def shards(self, counts: Mapping[str, int]) -> Iterator[Shard]:
        """The shards, given how many records each part has. Raises ``InputError`` where they are too many to be named."""
        for part in SIDES:
            if part in self.parts:
                if counts[part] > MOST_SHARDS * self.shard_size:
                    raise InputError(
                        f"--shard-size {self.shard_size}: {counts[part]} {part} would be more than {MOST_SHARDS} files; take a larger --shard-size"
                    )
                for number, start in enumerate(range(0, counts[part], self.shard_size)):
                    yield Shard(part, number, start, min(start + self.shard_size, counts[part]))


def spelt(name: tuple[str, str, str]) -> str:
    """A lexicon's name as cards and manifests have it: ``open en-de``."""
    return f"{name[0]} {name[1]}-{name[2]}"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def lexicon_fingerprints(policies: Iterable[Policy], lexicons: Lexicons) -> dict[tuple[str, str, str], str]:
    """The fingerprint of every lexicon that policies need. Raises ``InputError`` where one cannot be found."""
    return {name: lexicons.find(*name).fingerprint for name in sorted({name for policy in policies for name in policy.lexicons()})}


def package_versions(policies: Iterable[Policy], format: str) -> dict[str, str]:
    """The installed version of each package that the bytes depend on: simplemma only where a rule translates, since that looks words up by their lemmas."""
    translates = any(rule.strategy == "translate" for policy in policies for rule in (*policy.query.rules, *policy.passage.rules))
    packages = ["csrerank", *(["pyarrow"] if format == "parquet" else []), *(["simplemma"] if translates else [])]
    return {package: version(package) for package in packages}


class Request(NamedTuple):
    """What is to be switched, how: of a dataset's id and a policy's name, or of a switched id, as :func:`requested` resolves them."""

    dataset: str | None
    input: str | None
    policy: Policy
    seed: int
    epoch: int

    def source(self) -> Source:
        """Where the records come from."""
        return opened(self.dataset, self.input)


def requested(dataset: str | None, folder: str | None, policy: str | None, seed: int | None, epoch: int | None) -> Request:
    """What a user asks for. A switched id (``csrerank/en-qa/train/ml-cs``) brings its base, policy, seed and epoch along; ``seed`` and ``epoch`` go before its own.

    :param policy: as ``collections.switched.policy_named`` takes it.
    :raises InputError: where something is missing, or said twice.
    """
    from csrerank.collections.sampling import SEED
    from csrerank.collections.switched import policy_named, recipe

    if (dataset is None) == (folder is None):
        raise InputError("give either --dataset ID or --input FOLDER")
    found = recipe(dataset) if dataset is not None else None
    if found is not None:
        if policy is not None:
            raise InputError(f"{dataset}: switched by {found.policy.name} already; leave --policy out, or give --dataset {found.base}")
        return Request(found.base, None, found.policy, found.seed if seed is None else seed, found.epoch if epoch is None else epoch)
    if policy is None:
        raise InputError("--policy is needed; give a name such as ml-cs or bl-cs/en-de, or a YAML file")
    return Request(dataset, folder, policy_named(policy), SEED if seed is None else seed, epoch or 0)


def chosen_parts(source: Source, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The parts to write: all that the source has, or the ``wanted`` ones. Raises ``InputError`` for one that it lacks, and where none has texts."""
    found = source.parts()
    for part in wanted or ():
        if part not in PARTS:
            raise InputError(f"--parts: unknown part {part!r}; known are {', '.join(PARTS)}")
        if part not in found:
            raise InputError(f"{source.name}: has no {part}; it has {', '.join(found) or 'nothing to switch'}")
    chosen = tuple(part for part in PARTS if part in (wanted or found))
    if not SIDES.keys() & set(chosen):
        raise InputError(f"{source.name}: neither docs nor queries to switch; name a dataset, or parts, with texts")
    return chosen
