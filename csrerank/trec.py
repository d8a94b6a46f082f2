"""Read, check and write TREC runs and qrels: the only reader and writer of those files."""

import errno
import gzip
import os
import re
import secrets
import shlex
import stat
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import compress, islice, pairwise
from math import isfinite, isnan
from operator import ge, gt, index, lt, ne
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, NoReturn

from csrerank.errors import InputError

DEFAULT_TAG = "csrerank"
RUN_COLUMNS = "qid Q0 docid rank score tag"
QRELS_COLUMNS = "topic iter docid grade"
_CHUNK = 1 << 17
_LONGEST_LINE = 1 << 20
_UNFIT = re.compile(r"[ \t\n\r\v\f\0]")
_MARK = b"\xef\xbb\xbf"
_FIRST_BYTES = {
    _MARK: r"starts with a UTF-8 byte order mark; remove it with sed -i '1s/^\xEF\xBB\xBF//' FILE",
    b"\xff\xfe": "is UTF-16 text (byte order mark FF FE); convert it with iconv -f UTF-16 -t UTF-8 FILE",
    b"\xfe\xff": "is UTF-16 text (byte order mark FE FF); convert it with iconv -f UTF-16 -t UTF-8 FILE",
    b"\x1f\x8b": "is gzip inside gzip, not text; unpack it once with gunzip",
    b"BZh": "is a binary file (bzip2), not text; unpack it with bunzip2",
    b"\xfd7zXZ": "is a binary file (xz), not text; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "is a binary file (zstandard), not text; unpack it with unzstd",
    b"PK\x03\x04": "is a binary file (zip), not text; unpack it with unzip",
    b"PAR1": "is a binary file (Parquet), not text; write it out as text",
    b"%PDF": "is a binary file (PDF), not text; name the run or qrels file itself",
    b"\x7fELF": "is a binary file (a program), not text; name the run or qrels file itself",
}


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


class _Rows(NamedTuple):
    """Some lines of a run as columns, in the order of TopicLines."""

    topics: list[bytes]
    docs: list[str]
    scores: list[float]
    ranks: list[int]
    literals: list[bytes]
    tags: list[bytes]
    numbers: Sequence[int]


def source_name(source: str | Path) -> str:
    """Name a source in messages: its path, or "standard input" for "-"; always one line."""
    return "standard input" if str(source) == "-" else _printable(str(source))


def target_name(target: str | Path) -> str:
    """Name a target in messages: its path, or "standard output" for "-"; always one line."""
    return "standard output" if str(target) == "-" else _printable(str(target))


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
    with _opened(source, name) as (stream, shown):
        seen: dict[bytes, int] = {}
        lines: TopicLines | None = None
        current = b""
        for first, block in _blocks(stream, shown):
            rows, error = _rows(block, first, shown)
            count = len(rows.topics)
            changes = compress(range(1, count), map(ne, rows.topics, islice(rows.topics, 1, None)))
            for start, end in pairwise([0, *changes, count] if count else []):
                topic = rows.topics[start]
                if lines is None or topic != current:
                    if lines is not None:
                        refuse_duplicates(lines.topic, lines.docs, lines.numbers, shown)
                        yield lines
                    if topic in seen:
                        refuse_split(topic.decode(), seen[topic], rows.numbers[start], shown)
                    seen[topic] = rows.numbers[start]
                    current, lines = topic, TopicLines(topic.decode(), [], [], [], [], [], [])
                for column, part in zip(lines[1:], rows[1:], strict=True):
                    column.extend(part[start:end])  # type: ignore[attr-defined, index]
            if error is not None:
                raise error
        if lines is not None:
            refuse_duplicates(lines.topic, lines.docs, lines.numbers, shown)
            yield lines
        elif not allow_empty:
            _refuse_empty(shown)


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


def read_lines(source: str | Path | BinaryIO, *, allow_empty: bool = False, name: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its end) for each line that is not blank.

    :raises InputError: where the bytes are not lines of UTF-8 text, or (unless ``allow_empty``) where there is no line.
    """
    with _opened(source, name) as (stream, shown):
        empty = True
        for first, block in _blocks(stream, shown):
            for number, line in enumerate(block.split(b"\n")[:-1], first):
                text = _text(line, number, shown)
                if text.strip(" \t"):
                    empty = False
                    yield number, text
        if empty and not allow_empty:
            _refuse_empty(shown)


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
    return _write(target, format_run(topics, tag, target_name(target)))


def write_qrels(target: str | Path, qrels: Mapping[str, Mapping[str, int]]) -> int:
    """Write grades by topic and document as qrels, iteration 0, in the order given; return the number of lines.

    :raises InputError: an id that is no single token, a grade that is no integer, a target that cannot be written.
    """
    return _write(target, _format_qrels(qrels, target_name(target)))


def check_tag(tag: str) -> None:
    """Raise InputError unless the tag is one token; profiles ask for more."""
    if not tag or _UNFIT.search(tag) or not _encodes(tag):
        raise InputError(f"tag {_quoted(tag)} is not one token; give one without white space, for instance {DEFAULT_TAG}")


def check_writable(target: str | Path) -> None:
    """Raise InputError if ``target`` could not be written now, so that a long job fails before it starts."""
    if str(target) == "-":
        return
    if _is_device(target):
        if not os.access(target, os.W_OK):
            raise InputError(f"{target_name(target)}: no permission to write; choose another target")
        return
    temporary, descriptor = _create_beside(target)
    os.close(descriptor)
    os.unlink(temporary)


@contextmanager
def atomic(target: str | Path, mode: str = "wb") -> Iterator[BinaryIO]:
    """Open a temporary file that becomes ``target`` by rename when the block ends, and vanishes if the block raises.

    It lies in the same folder, is synced before the rename, and keeps the permissions of a file that it replaces; a
    symbolic link stays and its file is replaced. Standard output ("-") and devices, which cannot be renamed to, get the
    bytes at the end of the block.

    :param mode: "wb", or "w+b" to read back what was written.
    :raises InputError: if ``target`` cannot be written or the disk is full.
    """
    if mode not in ("wb", "w+b"):
        raise ValueError(f"mode {mode!r}: atomic opens wb or w+b")
    if str(target) == "-" or _is_device(target):
        check_writable(target)
        with tempfile.TemporaryFile() as spool:
            yield spool  # type: ignore[misc]
            spool.seek(0)
            _pour(target, iter(partial(spool.read, _CHUNK), b""))
        return
    path = os.path.realpath(target)
    temporary, descriptor = _create_beside(target)
    try:
        with open(descriptor, mode) as file:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{target_name(target)}: no space left on the disk; free some and run again") from error
        raise


def packed(file: BinaryIO, target: str | Path) -> AbstractContextManager[IO[bytes]]:
    """Give ``file`` to write to, compressing if ``target`` ends in ".gz"; leaving the block does not close ``file``."""
    if str(target).endswith(".gz"):
        # No name and no time in the header: the same run gives the same bytes.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)  # type: ignore[return-value]
    return nullcontext(file)


def format_run(topics: Iterable[TopicRun], tag: str, name: str) -> Iterator[bytes]:
    """Yield the lines of each topic that has documents, as write_run describes them; ``name`` begins the messages."""
    seen: set[str] = set()
    for topic, docs, scores in topics:
        check_ranking(topic, docs, seen, name)
        if not docs:
            continue
        texts = _decimals(topic, docs, scores, name)
        rows = zip(docs, texts, strict=True)
        yield "".join([f"{topic} Q0 {doc} {rank} {text} {tag}\n" for rank, (doc, text) in enumerate(rows, 1)]).encode()


def check_ranking(topic: str, docs: Sequence[str], seen: set[str], name: str) -> None:
    """Raise InputError unless the ids are distinct single tokens and the topic is not in ``seen``; then add it there."""
    ids = [topic, *docs]
    joined = " ".join(ids)
    # One search over all ids is ten times faster than one an id.
    if not all(ids) or joined.count(" ") != len(docs) or _UNFIT.search(joined.replace(" ", "")) or not _encodes(joined):
        bad = next(one for one in ids if not one or _UNFIT.search(one) or not _encodes(one))
        raise InputError(
            f"{name}: topic {_quoted(topic)}: id {_quoted(bad)} is empty, has white space or a NUL, or is not valid text; rename it"
        )
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
                f"{name}:{number}: document {_quoted(doc)} stands again in topic {_quoted(topic)}, first on line {first[doc]}; "
                "keep one of the two lines"
            )


def refuse_split(topic: str, first: int, number: int, name: str) -> NoReturn:
    """Raise the InputError for a topic that comes back after others."""
    file = "FILE" if name == "standard input" else shlex.quote(name)
    raise InputError(
        f"{name}:{number}: topic {_quoted(topic)} comes again after other topics, first on line {first}; "
        f"group its lines with sort -s -k1,1 {file}"
    )


class _Joined:
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self.head, self.stream = head, stream

    def read(self, size: int = -1) -> bytes:
        head, self.head = self.head, b""
        return head + self.stream.read(max(size - len(head), 0) if size >= 0 else -1)


@contextmanager
def _opened(source: str | Path | BinaryIO, name: str | None) -> Iterator[tuple[Any, str]]:
    """Open a source for reading, gunzipped if its first bytes say so, and name it."""
    if isinstance(source, str | Path):
        shown = name or source_name(source)
        stream: Any
        if str(source) == "-":
            yield _unzipped(sys.stdin.buffer, shown), shown
            return
        try:
            stream = open(source, "rb")  # noqa: SIM115 (the error message is for opening only)
        except FileNotFoundError:
            raise InputError(f"{shown}: no such file; check the path") from None
        except IsADirectoryError:
            raise InputError(f"{shown}: is a directory; name a file in it") from None
        except PermissionError:
            raise InputError(f"{shown}: no permission to read; allow it with chmod u+r") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{shown}: cannot be opened ({_reason(error)}); check the path") from error
        with stream:
            yield _unzipped(stream, shown), shown
    else:
        shown = name or "stream"
        yield _unzipped(source, shown), shown


def _unzipped(stream: BinaryIO, name: str) -> Any:
    head = _read(stream, 2, name)
    if len(head) == 1:
        head += _read(stream, 1, name)
    joined = _Joined(head, stream)
    return gzip.GzipFile(fileobj=joined, mode="rb") if head == b"\x1f\x8b" else joined  # type: ignore[call-overload]


def _read(stream: Any, size: int, name: str) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: truncated or damaged gzip file ({_reason(error)}); fetch it again and try gzip -t") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({_reason(error)}); check the file and its disk") from error


def _blocks(stream: Any, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines each ended by LF), a chunk at a time."""
    number, rest = 1, b""
    chunk = _read(stream, _CHUNK, name)
    _refuse_first_bytes(chunk, name)
    while chunk or rest:
        chunk = chunk or b"\n"  # the last line may lack its end
        end = chunk.find(b"\n")
        if len(rest) + (end if end >= 0 else len(chunk)) > _LONGEST_LINE:
            raise InputError(f"{name}:{number}: a line of more than 1 MB: this looks like a binary file, not text; check the path")
        block, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            block += newline
            yield number, block.replace(b"\r\n", b"\n") if b"\r" in block else block
            number += block.count(b"\n")
        chunk = _read(stream, _CHUNK, name)


def _rows(block: bytes, first: int, name: str) -> tuple[_Rows, InputError | None]:
    """Parse whole lines of a run; with the first error, if there is one, come the lines before it."""
    fast = _rows_at_once(block, first)
    if fast is not None:
        return fast, None
    rows = _Rows([], [], [], [], [], [], [])
    try:
        for number, line in enumerate(block.split(b"\n")[:-1], first):
            columns = split_columns(_text(line, number, name))
            if columns:
                for column, value in zip(rows, _run_line(columns, number, name), strict=True):
                    column.append(value)  # type: ignore[attr-defined]
    except InputError as error:
        return rows, error
    return rows, None


def _rows_at_once(block: bytes, first: int) -> _Rows | None:
    """Parse lines that are all in order, else return None: a pass over columns costs a third of a pass over lines."""
    if any(byte in block for byte in (b"\0", b"\v", b"\f", b"\r", b"\n" + _MARK)) or block.startswith(_MARK):
        return None
    count = block.count(b"\n")
    # A NUL, known to be absent, marks each line's end: if every seventh token is one, every line has six columns.
    tokens = block.replace(b"\n", b" \0 ").split()
    if len(tokens) != 7 * count or tokens[6::7].count(b"\0") != count:
        return None
    ranks, scores = tokens[3::7], tokens[4::7]
    # Python takes 1_000 for a number, other readers do not.
    if b"_" in block and (b"_" in b"".join(ranks) or b"_" in b"".join(scores)):
        return None
    try:
        if not block.isascii():
            block.decode()
        docs = b"\n".join(tokens[2::7]).decode().split("\n")
        rows = _Rows(
            tokens[0::7], docs, list(map(float, scores)), list(map(int, ranks)), tokens[1::7], tokens[5::7], range(first, first + count)
        )
    except ValueError:
        return None
    return rows if isfinite(sum(rows.scores)) else None


def _run_line(columns: list[str], number: int, name: str) -> tuple[bytes, str, float, int, bytes, bytes, int]:
    """Parse one line of a run, in the order of _Rows."""
    if len(columns) != 6:
        _refuse_run_columns(columns, number, name)
    topic, literal, doc, rank, score, tag = columns
    if not re.fullmatch(r"[+-]?[0-9]{1,4300}", rank):
        raise InputError(f"{name}:{number}: rank {_quoted(rank)} is not an integer; write a whole number in column 4")
    try:
        value = float(score) if score.isascii() and "_" not in score else None
    except ValueError:
        value = None
    if value is None:
        raise InputError(f"{name}:{number}: score {_quoted(score)} is not a number; write a decimal number in column 5")
    if isnan(value):
        raise InputError(f"{name}:{number}: the score is NaN; write a decimal number in column 5, or drop the line")
    if not isfinite(value):
        raise InputError(f"{name}:{number}: score {_quoted(score)} is infinite; write a finite decimal number in column 5")
    return topic.encode(), doc, value, int(rank), literal.encode(), tag.encode(), number


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


def _write(target: str | Path, chunks: Iterable[bytes]) -> int:
    """Write chunks of whole lines and return the number of lines."""
    lines = 0

    def counted() -> Iterator[bytes]:
        nonlocal lines
        for chunk in chunks:
            lines += chunk.count(b"\n")
            yield chunk

    if str(target) == "-":
        _pour(target, counted())
    else:
        with atomic(target) as file, packed(file, target) as out:
            for chunk in counted():
                out.write(chunk)
    return lines


def _pour(target: str | Path, chunks: Iterable[bytes]) -> None:
    """Write chunks to standard output or to a device, which know no rename."""
    if str(target) != "-":
        with open(target, "wb") as device:
            for chunk in chunks:
                device.write(chunk)
        return
    sys.stdout.flush()
    out = sys.stdout.buffer
    for chunk in chunks:
        _put(out, chunk)
    _put(out, b"")


def _put(out: BinaryIO, chunk: bytes) -> None:
    """Write a chunk, or flush for an empty one; leave quietly when the reader has gone."""
    try:
        if chunk:
            out.write(chunk)
        else:
            out.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at exit, and would report the closed pipe then.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(141) from None  # 128 + SIGPIPE: what a shell shows for cat FILE | head


def _is_device(target: str | Path) -> bool:
    try:
        mode = os.stat(target).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _create_beside(target: str | Path) -> tuple[str, int]:
    """Create an empty file in the folder of ``target`` and return (path, descriptor)."""
    shown = target_name(target)
    try:
        path = os.path.realpath(target)
        folder = os.path.dirname(path)
        if os.path.isdir(path):
            raise InputError(f"{shown}: is a directory; name a file in it")
        if not os.path.isdir(folder):
            raise InputError(f"{shown}: its folder does not exist; make it with mkdir -p {shlex.quote(_printable(folder))}")
        mode = None
        with suppress(FileNotFoundError):
            mode = os.stat(path).st_mode
        if mode is not None and not os.access(path, os.W_OK):
            raise InputError(f"{shown}: no permission to write; allow it with chmod u+w or choose another file")
        temporary = os.path.join(folder, f".{DEFAULT_TAG}-{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if mode is not None:
            os.fchmod(descriptor, stat.S_IMODE(mode))
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{shown}: no permission to write in its folder; choose another folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot be written ({_reason(error)}); choose another file") from error
    return temporary, descriptor


def _text(line: bytes, number: int, name: str) -> str:
    """Decode one line, refusing bytes that do not belong in a text file."""
    if b"\0" in line:
        raise InputError(f"{name}:{number}: NUL byte: this is a binary or damaged file, or UTF-16 text; convert it to UTF-8 text")
    for byte, what in ((b"\r", "carriage return"), (b"\v", "vertical tab"), (b"\f", "form feed")):
        if byte in line:
            raise InputError(f"{name}:{number}: {what} inside the line, where tools disagree how to split it; replace it")
    if line.startswith(_MARK):
        raise InputError(f"{name}:{number}: byte order mark inside the file, as joining files leaves it; remove it from the line")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}:{number}: not UTF-8 text (byte {line[error.start]:#04x} at position {error.start + 1}); "
            "convert it, for instance with iconv -f LATIN1 -t UTF-8"
        ) from None


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


def _refuse_first_bytes(head: bytes, name: str) -> None:
    for magic, message in _FIRST_BYTES.items():
        if head.startswith(magic):
            file = "FILE" if name == "standard input" else shlex.quote(name)
            raise InputError(f"{name}:1: {message.replace('FILE', file)}")


def _refuse_empty(name: str) -> NoReturn:
    raise InputError(f"{name}: the file is empty (no line with text); check the command that wrote it")


def _columns(count: int) -> str:
    return f"{count} column" if count == 1 else f"{count} columns"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".").replace("\n", " ")
