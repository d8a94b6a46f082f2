"""A file of translations for *Fine-tuning*, made by any program that translates line by line, such as Apertium."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from csrerank.errors import InputError
from csrerank.files import atomic, check_writable, is_stream
from csrerank.journal import locked
from csrerank.training.translations import SIDES

if TYPE_CHECKING:
    from csrerank.training.collection import Collection

_BLOCK = 500  # texts a call of the program: what a killed job does again
_SAID = 300  # characters that a message quotes of what the program said


def translate_dataset(dataset_id: str, command: str, output: Path, sides: Sequence[str] = SIDES, quiet: bool = False) -> dict[str, int]:
    """Translate the topics that have a relevant document and all documents of a plain training dataset into ``output`` (JSONL, see
    ``translations.read_translations``); gives the number of translations by side.

    ``command`` reads lines from standard input and writes the translation of each to the same line of standard output; every other line that it gets is empty
    (see ``_translated``). A killed call goes on from ``output``.part. Raises ``InputError`` for a program that fails or gives another number of lines, and where
    a part was made by another command or from other texts.
    """
    from tqdm import tqdm

    from csrerank.codeswitch import Lexicons
    from csrerank.training.collection import Collection

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--command {command}: {str(error).lower()}; close it") from None
    if is_stream(output):
        raise InputError(f"--output {output}: give a file, which a killed call goes on with")
    if not words:
        raise InputError("--command is empty; give a program that translates line by line, as 'apertium -u eng-spa'")
    check_writable(output)
    collection = Collection(dataset_id, Lexicons(quiet=True))
    if collection.is_switched:
        raise InputError(f"--dataset {dataset_id}: is switched; give the plain {collection.base}")
    texts = list(_texts(collection, sides))
    part = output.with_name(f"{output.name}.part")
    digest = hashlib.sha256("\x1e".join("\x1f".join(row) for row in texts).encode("utf-8", "surrogatepass")).hexdigest()
    asked = {"command": command, "texts": digest, "texts a call": _BLOCK}
    with locked(part) as file, _left(part, file):
        done = _resumed(part, file, asked)
        with tqdm(total=len(texts), initial=done, unit="text", desc="translating", disable=quiet or not sys.stderr.isatty()) as bar:
            for start in range(done, len(texts), _BLOCK):
                block = texts[start : start + _BLOCK]
                found = _translated(words, [" ".join(text.split()) for _, _, text in block])
                rows = [{"id": name, "side": side, "text": " ".join(text.split())} for (side, name, _), text in zip(block, found, strict=True)]
                header = [] if start else [asked]  # with the first translations, for a command that fails at once to leave nothing
                file.write(b"".join(json.dumps(row).encode() + b"\n" for row in [*header, *rows]))
                file.flush()
                bar.update(len(block))
        file.seek(0)
        kept = [row for line in file.read().splitlines()[1:] if (row := json.loads(line))["text"]]  # what came out empty stays as it is in training
        if not kept:
            file.truncate(0)
            raise InputError(f"--command {command}: every translation is empty; mend the command")
        with atomic(output) as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n" for row in kept)
        part.unlink()  # under the lock: afterwards the name may be another job's
    return {side: sum(row["side"] == side for row in kept) for side in sides}


@contextmanager
def _left(part: Path, file: BinaryIO) -> Iterator[None]:
    """On the way out of a failure, delete a part that holds no translation, so that a mended command is not refused for it."""
    try:
        yield
    except BaseException:
        if not os.fstat(file.fileno()).st_size:
            part.unlink(missing_ok=True)  # under the lock: afterwards the name may be another job's
        raise


def _texts(collection: "Collection", sides: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(side, id, text)."""
    if "query" in sides:
        yield from (("query", topic, collection.topics[topic]) for topic in collection.relevant)
    if "passage" in sides:
        documents = collection.all_documents()
        for start in range(0, len(documents), _BLOCK):
            found = collection.texts(documents[start : start + _BLOCK])
            yield from (("passage", document, text) for document, text in found.items())


def _translated(words: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The program's translations of ``lines``, given with an empty line between each two. Apertium takes the end of a line for a blank, and moves words over
    it into the next text; an empty line ends a sentence. What the program makes of the empty lines is not looked at."""
    given = "\n\n".join(lines) + "\n"
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise InputError(f"--command {shlex.join(words)}: cannot be run ({error.strerror}); install it, or mend the command") from error
    said = _quoted(done.stderr)
    if done.returncode:
        raise InputError(f"--command {shlex.join(words)}: failed with exit code {done.returncode}{said}; mend the command")
    found = done.stdout.removesuffix("\n").split("\n") if done.stdout else []
    sent = 2 * len(lines) - 1
    if len(found) != sent:
        raise InputError(
            f"--command {shlex.join(words)}: gave {len(found)} lines for {sent}, every other of them empty{said}; give a program that translates "
            "line by line, and an empty line to an empty one"
        )
    return found[::2]


def _quoted(said: str) -> str:
    """What a program said, on one line in brackets, its middle left out where it is long: some name the error first (Apertium), some last (Python)."""
    line = " ".join(said.split())
    if len(line) > _SAID:
        line = f"{line[: _SAID // 2]} ... {line[-_SAID // 2 :]}"
    return f" ({line})" if line else ""


def _resumed(part: Path, file: BinaryIO, asked: Mapping[str, object]) -> int:
    """How many texts a killed call finished. A call of the program that is half written is cut off, for later ones to get the lines that they would have got:
    what Apertium makes of a line depends on those before it."""
    content, wanted = file.read(), json.dumps(asked).encode() + b"\n"
    if content[: len(wanted)] != wanted[: len(content)]:
        raise InputError(f"{part}: begun by another command or version, or from other texts; delete it to begin anew")
    rows = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    done = max(len(rows) - 1, 0) // _BLOCK * _BLOCK
    end = sum(map(len, rows[: done + 1])) if done else 0  # the header comes with the first translations
    file.truncate(end)
    file.seek(end)
    return done
