"""Read, check and write TREC runs and qrels: the only reader and writer of those files."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice, pairwise
from math import isfinite, isnan
from operator import ge, gt, index, lt, ne
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from csrerank.errors import InputError
from csrerank.files import target_name, write_lines
from csrerank.lines import Readable, blocks, is_plain, opened, read_lines, refuse_empty, shell_name, source_name, text_lines

DEFAULT_TAG = "csrerank"
RUN_COLUMNS = "qid Q0 docid rank score tag"
QRELS_COLUMNS = "topic iter docid grade"
_UNFIT = re.compile(r"[ \t\n\r\v\f\0]")


class TopicRun(NamedTuple):
    """The ranking of one topic, best document first; ``scores[i]`` belongs to ``docs[i]``."""

    topic: str
    docs: list[str]
    scores: list[float]


class TopicLines(NamedTuple):
    """The lines of one topic in file order, one entry a line in each list; ``numbers`` are line numbers from 1."""

    topic: str
    docs: list[str]
    scores: list[float]
    ranks: list[int]
    literals: list[bytes]
    tags: list[bytes]
    numbers: list[int]


def read_run(source: str | Path, *, allow_empty: bool = False) -> Iterator[TopicRun]:
    """Yield the topics of a run one by one, in file order.

    Documents come in first-stage order: score descending, ties by the rank column, then by file order. Ids are strings,
    exactly as written; columns are split at spaces and tabs only; the second column is not looked at. Blank lines are
    skipped, CRLF is accepted. One topic and the set of topic ids are held in memory.

    :param source: a path, or "-" for standard input; gzip is known by its first bytes, not by its name.
    :param allow_empty: yield nothing for a file without lines instead of raising.
    :raises InputError: at the first line that breaks the format, naming file, line and mend.
    """
    for lines in read_topic_lines(source, allow_empty=allow_empty):
        yield ranked(lines)


def read_topic_lines(source: str | Path | BinaryIO, *, allow_empty: bool = False, name: str | None = None) -> Iterator[TopicLines]:
    """Yield the topics of a run with every column, each topic's lines in file order.

    :param source: as in read_run, or an open binary file, which stays open.
    :param name: what messages call the source.
    :raises InputError: as read_run does; the topics before the one that breaks the format are yielded first.
    """
    shown = name or source_name(source)
    first_lines: dict[str, int] = {}
    lines: TopicLines | None = None
    with opened(source, shown) as stream:
        for part in _parts(stream, shown):
            if lines is not None and part.topic == lines.topic:
                for column, more in zip(lines[1:], part[1:], strict=True):
                    column.extend(more)  # type: ignore[attr-defined]
                continue
            if lines is not None:
                refuse_duplicates(lines.topic, lines.docs, lines.numbers, shown)
                yield lines
            if part.topic in first_lines:
                refuse_split(part.topic, first_lines[part.topic], part.numbers[0], shown)
            first_lines[part.topic] = part.numbers[0]
            lines = part
    if lines is not None:
        refuse_duplicates(lines.topic, lines.docs, lines.numbers, shown)
        yield lines
    elif not allow_empty:
        refuse_empty(shown)


def ranked(lines: TopicLines) -> TopicRun:
    """Put a topic's lines in first-stage order: score descending, ties by the rank column, then by file order."""
    scores, ranks = lines.scores, lines.ranks
    falling = all(map(gt, scores, islice(scores, 1, None)))
    if not falling and all(map(ge, scores, islice(scores, 1, None))):
        falling = all(map(lt, ranks, islice(ranks, 1, None)))
    if falling:
        return TopicRun(lines.topic, lines.docs, scores)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], ranks[i]))
    return TopicRun(lines.topic, [lines.docs[i] for i in order], [scores[i] for i in order])


def read_qrels(source: str | Path) -> dict[str, dict[str, int]]:
    """Read qrels (``topic iter docid grade``) into grades by topic and document; topics need not be contiguous.

    Grades are integers, negative ones included. Sources are those of read_run.

    :raises InputError: at the first line that breaks the format or judges a pair again, and on an empty file.
    """
    shown = source_name(source)
    qrels: dict[str, dict[str, int]] = {}
    first_lines: dict[str, dict[str, int]] = {}
    for number, text in read_lines(source):
        columns = split_columns(text)
        if len(columns) != 4:
            _refuse_qrels_columns(columns, number, shown)
        topic, _, doc, written = columns
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", written):
            raise InputError(f"{shown}:{number}: grade {_quoted(written)} is not an integer; write a whole number in column 4")
        grade = int(written)
        grades, lines = qrels.setdefault(topic, {}), first_lines.setdefault(topic, {})
        if doc in grades:
            what = "the same grade" if grades[doc] == grade else f"grade {grade} instead of {grades[doc]}"
            raise InputError(
                f"{shown}:{number}: topic {_quoted(topic)}, document {_quoted(doc)} is judged again with {what}, "
                f"first on line {lines[doc]}; keep one of the two lines"
            )
        grades[doc], lines[doc] = grade, number
    return qrels


def write_run(target: str | Path, topics: Iterable[TopicRun], tag: str = DEFAULT_TAG) -> int:
    """Write a run in the order given and return its number of lines; ranks start at 1.

    Scores are written as 32-bit floats, strictly decreasing in a topic: where a score does not lie below the one before
    it, it becomes the next float32 below that one (trec_eval holds scores as float32, and every scorer breaks ties its
    own way). Each is the shortest decimal that reads back to it, through a 64-bit float too. A topic without documents
    writes nothing. A file appears whole, by rename, and is left as it was if ``topics`` raises.

    :param target: a path (".gz" compresses, the same bytes each time), or "-" for standard output, where a reader that
        goes away ends the process quietly with status 141.
    :raises InputError: a tag or id that is no single token, a topic or document given twice, a score that is not finite
        as float32, a target that cannot be written.
    """
    check_tag(tag)
    return write_lines(format_run(topics, tag, target_name(target)), target)


def write_qrels(target: str | Path, qrels: Mapping[str, Mapping[str, int]]) -> int:
    """Write grades by topic and document as qrels, iteration 0, in the order given; return the number of lines.

    :raises InputError: an id that is no single token, a grade that is no integer, a target that cannot be written.
    """
    return write_lines(_format_qrels(qrels, target_name(target)), target)


def check_tag(tag: str) -> None:
    """Raise InputError unless the tag is one token; profiles ask for more."""
    if not _is_token(tag):
        raise InputError(f"tag {_quoted(tag)} is not one token; give one without white space, for instance {DEFAULT_TAG}")


def format_run(topics: Iterable[TopicRun], tag: str, name: str) -> Iterator[bytes]:
    """Yield the lines of each topic that has documents, as write_run describes them; ``name`` begins the messages."""
    seen: set[str] = set()
    for topic, docs, scores in topics:
        check_ranking(topic, docs, seen, name)
        if not docs:
            continue
        rows = enumerate(zip(docs, _decimals(topic, docs, scores, name), strict=True), 1)
        yield "".join([f"{topic} Q0 {doc} {rank} {score} {tag}\n" for rank, (doc, score) in rows]).encode()


def check_ranking(topic: str, docs: Sequence[str], seen: set[str], name: str) -> None:
    """Raise InputError unless the ids are distinct single tokens and the topic is not in ``seen``; then add it there."""
    # One search over all ids is ten times faster than one an id.
    if not (all(docs) and _is_token(topic) and (not docs or _is_token("".join(docs)))):
        bad = next(one for one in (topic, *docs) if not _is_token(one))
        raise InputError(f"{name}: topic {_quoted(topic)}: id {_quoted(bad)} is empty, has white space or a NUL, or is not valid text; rename it")
    if topic in seen:
        raise InputError(f"{name}: topic {_quoted(topic)} is given twice; merge its documents into one ranking")
    if topic.startswith("\ufeff"):
        raise InputError(f"{name}: topic {_quoted(topic)} starts with a byte order mark; remove it from the id")
    seen.add(topic)
    if len(set(docs)) != len(docs):
        twice = Counter(docs).most_common(1)[0][0]
        raise InputError(f"{name}: topic {_quoted(topic)}: document {_quoted(twice)} is given twice; keep one of them")


def split_columns(text: str) -> list[str]:
    """Split a line at spaces and tabs; any other white space (U+00A0, U+3000, …) belongs to an id."""
    return [column for column in text.replace("\t", " ").split(" ") if column]


def refuse_duplicates(topic: str, docs: Sequence[str], numbers: Sequence[int], name: str) -> None:
    """Raise InputError if a document stands twice in a topic; ``numbers`` are the line numbers of ``docs``."""
    if len(set(docs)) == len(docs):
        return
    first: dict[str, int] = {}
    for doc, number in zip(docs, numbers, strict=True):
        if first.setdefault(doc, number) != number:
            raise InputError(
                f"{name}:{number}: document {_quoted(doc)} stands again in topic {_quoted(topic)}, first on line {first[doc]}; keep one of the two lines"
            )


def refuse_split(topic: str, first: int, number: int, name: str) -> NoReturn:
    """Raise the InputError for a topic that comes back after others."""
    raise InputError(
        f"{name}:{number}: topic {_quoted(topic)} comes again after other topics, first on line {first}; group its lines with sort -s -k1,1 {shell_name(name)}"
    )


def _parts(stream: Readable, name: str) -> Iterator[TopicLines]:
    """Yield the lines of a run in file order, in parts that each belong to one topic."""
    for first, block in blocks(stream, name):
        parts = _parts_at_once(block, first)
        yield from _parts_by_line(block, first, name) if parts is None else parts


def _parts_at_once(block: bytes, first: int) -> Iterator[TopicLines] | None:
    """Parse lines that are all in order, else return None: a pass over columns costs a fraction of a pass over lines."""
    if not is_plain(block):
        return None
    count = block.count(b"\n")
    # A NUL, known to be absent, marks each line's end: if every seventh token is one, every line has six columns.
    tokens = block.replace(b"\n", b" \0 ").split()
    if len(tokens) != 7 * count or tokens[6::7].count(b"\0") != count:
        return None
    topics, written = tokens[0::7], tokens[3::7] + tokens[4::7]
    # Python takes 1_000 for a number, other readers do not.
    if b"_" in block and b"_" in b"".join(written):
        return None
    try:
        ranks, scores = list(map(int, written[:count])), list(map(float, written[count:]))
    except ValueError:
        return None
    if not isfinite(sum(scores)):
        return None
    docs = b"\n".join(tokens[2::7]).decode().split("\n")
    literals, tags, numbers = tokens[1::7], tokens[5::7], list(range(first, first + count))
    changes = compress(range(1, count), map(ne, topics, islice(topics, 1, None)))
    return (
        TopicLines(topics[i].decode(), docs[i:j], scores[i:j], ranks[i:j], literals[i:j], tags[i:j], numbers[i:j]) for i, j in pairwise([0, *changes, count])
    )


def _parts_by_line(block: bytes, first: int, name: str) -> Iterator[TopicLines]:
    """Parse lines one by one, each a part; raise InputError at the first that breaks the format."""
    for number, text in text_lines(block, first, name):
        columns = split_columns(text)
        if len(columns) != 6:
            _refuse_run_columns(columns, number, name)
        topic, literal, doc, rank, score, tag = columns
        if not re.fullmatch(r"[+-]?[0-9]{1,4300}", rank):
            raise InputError(f"{name}:{number}: rank {_quoted(rank)} is not an integer; write a whole number in column 4")
        yield TopicLines(topic, [doc], [_score(score, number, name)], [int(rank)], [literal.encode()], [tag.encode()], [number])


def _score(written: str, number: int, name: str) -> float:
    try:
        score = float(written) if written.isascii() and "_" not in written else None
    except ValueError:
        score = None
    if score is None:
        raise InputError(f"{name}:{number}: score {_quoted(written)} is not a number; write a decimal number in column 5")
    if isnan(score):
        raise InputError(f"{name}:{number}: the score is NaN; write a decimal number in column 5, or drop the line")
    if not isfinite(score):
        raise InputError(f"{name}:{number}: score {_quoted(written)} is infinite; write a finite decimal number in column 5")
    return score


def _decimals(topic: str, docs: Sequence[str], scores: Sequence[float], name: str) -> list[str]:
    """Print scores so that they fall strictly as float32 values, each as short as reads back exactly."""
    import numpy as np

    if len(scores) != len(docs):
        raise InputError(f"{name}: topic {_quoted(topic)}: {len(docs)} documents, {len(scores)} scores; give one score a document")
    with np.errstate(over="ignore"):
        values = np.asarray(scores, dtype=np.float64).astype(np.float32)
        if not (values[1:] < values[:-1]).all():
            for i in range(1, len(values)):
                if values[i] >= values[i - 1]:
                    values[i] = np.nextafter(values[i - 1], np.float32(-np.inf))
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.flatnonzero(~finite)[0])
        raise InputError(
            f"{name}: topic {_quoted(topic)}, document {_quoted(docs[at])}: score {scores[at]} is not finite as a 32-bit float; "
            "score it again with finite numbers"
        )
    texts = list(map(str, values))
    back = np.array(list(map(float, texts))).astype(np.float32)
    # A reader goes by way of float64, and rounding twice can miss (7.038531e-26 does); nine digits never do.
    for i in np.flatnonzero(back != values).tolist():
        texts[i] = f"{values[i]:.9g}"
    return texts


def _format_qrels(qrels: Mapping[str, Mapping[str, int]], name: str) -> Iterator[bytes]:
    seen: set[str] = set()
    for topic, grades in qrels.items():
        check_ranking(topic, list(grades), seen, name)
        try:
            yield "".join([f"{topic} 0 {doc} {index(grade)}\n" for doc, grade in grades.items()]).encode()
        except TypeError:
            raise InputError(f"{name}: topic {_quoted(topic)} has a grade that is no integer; round it or map it to one") from None


def _refuse_run_columns(columns: list[str], number: int, name: str) -> NoReturn:
    count = len(columns)
    what, mend = "", "each line needs all six, and no white space inside an id or the tag"
    if columns[0].startswith("#"):
        what, mend = ": this looks like a comment or metadata, which run readers do not know", "remove it"
    elif count == 3 and columns[2].isdecimal():
        what, mend = ": this looks like an MS MARCO run (qid pid rank)", "add the literal Q0, a score that falls with the rank, and a tag"
    elif count == 4 and re.fullmatch(r"[+-]?[0-9]+", columns[3]):
        what, mend = f": this looks like a qrels file ({QRELS_COLUMNS})", "name the run instead"
    elif count == 1 and columns[0][0] in "{[":
        what, mend = ": this looks like JSON", "write it out as a TREC run"
    elif count == 1 and "," in columns[0]:
        what, mend = ": this looks like comma-separated values", "separate the columns by spaces or tabs"
    raise InputError(f"{name}:{number}: {_columns(count)} where a TREC run has 6 ({RUN_COLUMNS}){what}; {mend}")


def _refuse_qrels_columns(columns: list[str], number: int, name: str) -> NoReturn:
    count = len(columns)
    what, mend = "", "each line needs all four, and no white space inside an id"
    if count == 6:
        what, mend = f": this looks like a run ({RUN_COLUMNS})", "name the qrels instead"
    elif count == 3:
        what, mend = ": this looks like BEIR qrels (query-id corpus-id score)", "drop the header and add a column 0 after the first"
    raise InputError(f"{name}:{number}: {_columns(count)} where qrels have 4 ({QRELS_COLUMNS}){what}; {mend}")


def _columns(count: int) -> str:
    return f"{count} column" if count == 1 else f"{count} columns"


def _is_token(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text) and _UNFIT.search(text) is None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
