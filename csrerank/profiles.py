"""Hold a run against the rules of a leaderboard, and export a run to the format that the leaderboard takes."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from csrerank import trec
from csrerank.errors import InputError
from csrerank.files import atomic, packed, put_lines, target_name
from csrerank.lines import read_lines, source_name
from csrerank.metadata import dataset_of
from csrerank.trec import TopicLines, TopicRun

MOST_FINDINGS = 20


@dataclass(frozen=True)
class Profile:
    """The rules of one leaderboard.

    ``depth`` is the most documents a topic may have (None: any number); ``tag`` and ``document`` are regular expressions
    that the run tag and each document id match in full, ``tag_rule`` and ``document_rule`` say so in words; ``tabs`` means
    three columns ``qid pid rank`` separated by tabs instead of the six of a TREC run; ``texts`` a JSON list with the
    passages' texts, as :func:`csrerank.collections.xor_retrieve.prediction_lines` writes it, cut at ``depth`` when exported
    but free to hold more.
    """

    name: str
    depth: int | None = None
    tag: str = r"\S+"
    tag_rule: str = "one token"
    document: str | None = None
    document_rule: str = ""
    tabs: bool = False
    texts: bool = False


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("trec", tag="[A-Za-z0-9]{1,12}", tag_rule="1 to 12 letters and digits"),
        Profile("dl", depth=100, tag="[A-Za-z0-9_-]{1,25}", tag_rule="1 to 25 letters, digits, _ and -"),
        Profile(
            "neuclir",
            depth=1000,
            # https://neuclir.github.io/2023, "Run Names": the flags before the underscore are recommended, not required.
            tag=r"(zho|fas|rus|mlir|tech)-[^\s-]+-\S+",
            tag_rule="{zho,fas,rus,mlir,tech}-TEAM-[flags_]name, for instance zho-team1-ACLN_run1",
        ),
        Profile("msmarco", depth=1000, tabs=True),
        Profile("miracl", document=r"[^#]+#[0-9]+", document_rule="ARTICLE#PASSAGE, for instance 12#3"),
        # Its measure reads 5,000 tokens, about 55 passages; the organisers' baseline hands in 100.
        Profile("xor-retrieve", depth=100, texts=True),
    )
}


def check_run(source: str | Path, profile: str, topics: Collection[str] | None = None) -> list[str]:
    """Return what breaks the rules of a profile, one line each with file, line number and mend; an empty list is a pass.

    Every rule is reported at most once a topic, at its first line, and a tag that breaks the profile's rule once. What
    trec.read_run would raise is a finding too, and the last one, for nothing can be read after it. After MOST_FINDINGS
    findings comes ``… and N more``.

    :param source: as in trec.read_run; for msmarco and xor-retrieve the file that the leaderboard takes.
    :param topics: ids that the run must contain; without them, missing topics go unnoticed.
    :raises InputError: if the profile is unknown.
    """
    rules = find_profile(profile)
    findings = _findings(source, rules, source_name(source), topics)
    first = list(islice(findings, MOST_FINDINGS))
    more = sum(1 for _ in findings)
    return [*first, f"… and {more} more"] if more else first


def export_run(source: str | Path, target: str | Path, profile: str, tag: str | None = None, dataset: str | None = None) -> int:
    """Write a run as a leaderboard takes it and return its number of lines (of questions for xor-retrieve, which stand one a line).

    Documents are put in first-stage order, cut at the profile's depth and ranked from 1; scores are made strictly
    decreasing as trec.write_run describes. The result is checked by check_run before it appears.

    :param tag: the run tag; by default that of the first line of ``source``. msmarco and xor-retrieve files have none.
    :param dataset: for xor-retrieve the ir_datasets id of questions and passages; by default the one that the metadata of ``source`` names.
    :raises InputError: if ``source`` cannot be read, ``target`` cannot be written, or the result breaks a rule of the
        profile; ``target`` is left as it was then.
    """
    rules = find_profile(profile)
    if tag is not None:
        _check_tag(tag, rules)
    if dataset is not None and not rules.texts:
        raise InputError(f"--dataset is for formats with texts in them, which {rules.name} is not; leave it out")
    if rules.texts:
        dataset = dataset or _dataset_of(source)
    name = target_name(target)
    with atomic(target, "w+b") as file:
        with packed(file, target) as out:
            lines = put_lines(_exported(source, rules, tag, name, dataset), out)
        file.seek(0)
        finding = next(_findings(file, rules, name, None), None)
        if finding is not None:
            raise InputError(finding)
    return lines


def find_profile(name: str) -> Profile:
    """Return the profile of a name; InputError lists the known ones."""
    if name not in PROFILES:
        raise InputError(f"profile {name!r} is unknown; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def _findings(source: str | Path | BinaryIO, rules: Profile, name: str, topics: Collection[str] | None) -> Iterator[str]:
    """Yield findings in file order, missing topics last."""
    missing = dict.fromkeys(topics or ())
    if rules.texts:
        yield from _prediction_findings(source, name, missing)
        return
    tag: bytes | None = None
    topic_lines = _tab_topics(source, name) if rules.tabs else trec.read_topic_lines(source, name=name)
    try:
        for lines in topic_lines:
            missing.pop(lines.topic, None)
            if tag is None:
                tag = lines.tags[0]
                if not rules.tabs and not re.fullmatch(rules.tag, tag.decode()):
                    yield f"{name}:{lines.numbers[0]}: tag {tag.decode()!r} is not {rules.tag_rule}; rename it"
            for number, message in sorted(_broken(lines, rules, tag), key=itemgetter(0)):
                yield f"{name}:{number}: topic {lines.topic!r}: {message}"
    except InputError as error:
        yield str(error)
        return
    yield from _missing_findings(missing, name)


def _missing_findings(missing: Iterable[str], name: str) -> Iterator[str]:
    for topic in missing:
        yield f"{name}: topic {topic!r} is missing; add at least one document for it"


def _prediction_findings(source: str | Path | BinaryIO, name: str, missing: dict[str, None]) -> Iterator[str]:
    """Yield findings on a prediction file of XOR-Retrieve, by entry: a JSON file has no lines to speak of."""
    from csrerank.collections.xor_retrieve import read_predictions

    try:
        entries = read_predictions(source, name)
    except InputError as error:
        yield str(error)
        return
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            missing.pop(entry.topic, None)
    yield from _missing_findings(missing, name)


def _broken(lines: TopicLines, rules: Profile, tag: bytes) -> Iterator[tuple[int, str]]:
    """Yield (line number, message) for each rule that a topic breaks, at its first line; ``tag`` is that of the first line."""
    numbers = lines.numbers
    for at, rank in enumerate(lines.ranks):
        if rank != at + 1:
            yield numbers[at], f"rank {rank} where {at + 1} is due; number the lines of a topic from 1 up by 1"
            break
    if rules.depth is not None and len(numbers) > rules.depth:
        yield (
            numbers[rules.depth],
            f"{len(numbers):,} documents where {rules.name} takes {rules.depth:,}; cut the topic here, or export the run",
        )
    if rules.document is not None:
        fits = re.compile(rules.document).fullmatch
        at_doc = next((at for at, doc in enumerate(lines.docs) if not fits(doc)), None)
        if at_doc is not None:
            yield numbers[at_doc], f"document id {lines.docs[at_doc]!r} is not {rules.document_rule}; use the collection's ids"
    if not rules.tabs:
        yield from _broken_columns(lines, tag)


def _broken_columns(lines: TopicLines, tag: bytes) -> Iterator[tuple[int, str]]:
    """Yield as _broken does for the columns that only a TREC run has: the literal, the score and the tag."""
    numbers, scores = lines.numbers, lines.scores
    at = _first_other(lines.literals, b"Q0")
    if at is not None:
        yield numbers[at], f"second column {lines.literals[at].decode()!r}; write the literal Q0 there"
    at = next((at for at in range(1, len(scores)) if scores[at] > scores[at - 1]), None)
    if at is not None:
        yield numbers[at], f"score {scores[at]} above {scores[at - 1]} on the line before; sort by score, descending, and number anew"
    at = _first_other(lines.tags, tag)
    if at is not None:
        yield numbers[at], f"tag {lines.tags[at].decode()!r} where the first line has {tag.decode()!r}; give every line the same tag"


def _first_other(column: list[bytes], value: bytes) -> int | None:
    """Return the index of the first entry that is not ``value``."""
    if column.count(value) == len(column):
        return None
    return next(at for at, entry in enumerate(column) if entry != value)


def _tab_topics(source: str | Path | BinaryIO, name: str) -> Iterator[TopicLines]:
    """Yield the topics of an MS MARCO file (``qid<TAB>pid<TAB>rank``); scores are the ranks, negated."""
    seen: dict[str, int] = {}
    for topic, group in groupby(_tab_rows(source, name), key=itemgetter(1)):
        rows = list(group)
        numbers, docs, ranks = [row[0] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
        if topic in seen:
            trec.refuse_split(topic, seen[topic], numbers[0], name)
        seen[topic] = numbers[0]
        trec.refuse_duplicates(topic, docs, numbers, name)
        size = len(rows)
        yield TopicLines(topic, docs, [-float(rank) for rank in ranks], ranks, [b"Q0"] * size, [b"-"] * size, numbers)


def _tab_rows(source: str | Path | BinaryIO, name: str) -> Iterator[tuple[int, str, str, int]]:
    for number, text in read_lines(source, name=name):
        columns = text.split("\t")
        if len(columns) != 3:
            count = len(trec.split_columns(text))
            what = ": this looks like a TREC run; export it with profile msmarco" if count == 6 else "; separate the columns by single tabs"
            raise InputError(f"{name}:{number}: not the 3 columns of an MS MARCO run (qid<TAB>pid<TAB>rank){what}")
        topic, doc, rank = columns
        if len(trec.split_columns(text)) != 3 or " " in text:
            raise InputError(f"{name}:{number}: an empty column or a space in one; write qid<TAB>pid<TAB>rank and nothing else")
        if not re.fullmatch("[0-9]{1,18}", rank):
            raise InputError(f"{name}:{number}: rank {rank[:60]!r} is not an integer; write a whole number in column 3")
        yield number, topic, doc, int(rank)


def _exported(source: str | Path, rules: Profile, tag: str | None, name: str, dataset: str | None) -> Iterator[bytes]:
    """Yield the lines of the exported run, a topic at a time."""
    topics = trec.read_topic_lines(source)
    first = next(topics)  # an empty source raises here
    cut = (_top(lines, rules.depth) for lines in chain([first], topics))
    if rules.tabs:
        yield from _tab_lines(cut, name)
        return
    if dataset is not None:
        from csrerank.collections.xor_retrieve import prediction_lines

        yield from prediction_lines(cut, dataset, source_name(source))
        return
    if tag is None:
        tag = first.tags[0].decode()
        _check_tag(tag, rules)
    yield from trec.format_run(cut, tag, name)


def _dataset_of(source: str | Path) -> str:
    named = dataset_of(source) if str(source) != "-" else None
    if named is None:
        raise InputError(f"{source_name(source)}: no texts to write: give --dataset ID; the run has no sidecar that names one")
    return named


def _top(lines: TopicLines, depth: int | None) -> TopicRun:
    topic, docs, scores = trec.ranked(lines)
    return TopicRun(topic, docs[:depth], scores[:depth])


def _tab_lines(topics: Iterable[TopicRun], name: str) -> Iterator[bytes]:
    seen: set[str] = set()
    for topic, docs, _ in topics:
        trec.check_ranking(topic, docs, seen, name)
        yield "".join([f"{topic}\t{doc}\t{rank}\n" for rank, doc in enumerate(docs, 1)]).encode()


def _check_tag(tag: str, rules: Profile) -> None:
    if rules.tabs or rules.texts:
        raise InputError(f"tag {tag!r}: a {rules.name} file has no tag; leave it out")
    trec.check_tag(tag)
    if not re.fullmatch(rules.tag, tag):
        raise InputError(f"tag {tag!r} is not what {rules.name} asks for ({rules.tag_rule}); give another tag")
