"""Files: how they are opened, which bytes are refused and how, and that what is written appears whole or not at all."""

import gzip
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from csrerank import files, lines
from csrerank.errors import InputError
from csrerank.files import atomic, check_writable, put_lines, write_lines
from csrerank.lines import read_lines

GOOD = "one\n\ntwo é\u00a0\u2028x\n".encode()


def put(folder: Path, content: bytes, name: str = "some.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# Reading


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r\n")[:-1],
        GOOD.replace(b"\n\n", b"\n \t\n"),
        gzip.compress(GOOD),
        gzip.compress(GOOD[:7]) + gzip.compress(GOOD[7:]),
    ],
    ids=["plain", "no-end", "crlf", "cr-at-end", "blank-with-space", "gzip", "two-gzip-members"],
)
def test_read_lines(content, tmp_path, monkeypatch):
    expected = [(1, "one"), (3, "two é\u00a0\u2028x")]
    assert list(read_lines(put(tmp_path, content))) == expected
    assert list(read_lines(str(put(tmp_path, content)))) == expected
    feed(monkeypatch, content)
    assert list(read_lines("-")) == expected
    stream = io.BytesIO(content)
    assert list(read_lines(stream)) == expected and not stream.closed


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzip"])
def test_streams_that_give_a_byte_at_a_time(content):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1))

    assert [number for number, _ in read_lines(Slow(content))] == [1, 3]


def test_space_around_a_line_stays(tmp_path):
    assert list(read_lines(put(tmp_path, b" a\t\n"))) == [(1, " a\t")]


def test_empty_allowed(tmp_path):
    assert list(read_lines(put(tmp_path, b""), allow_empty=True)) == []
    assert list(read_lines(put(tmp_path, b"\n \t\n"), allow_empty=True)) == []


def test_numbers_across_blocks(tmp_path):
    lines = [f"line {number} " + "x" * (number % 97) for number in range(1, 20001)]
    assert list(read_lines(put(tmp_path, "\n".join(lines).encode()))) == list(enumerate(lines, 1))
    lines[17000] += "\0"
    with pytest.raises(InputError, match=":17001: NUL byte"):
        list(read_lines(put(tmp_path, "\n".join(lines).encode())))


def test_byte_order_mark_where_a_block_starts(tmp_path):
    text = b"fifteen letters\n" * (lines._CHUNK // 16)
    with pytest.raises(InputError, match=":8193: byte order mark inside the file"):
        list(read_lines(put(tmp_path, text + b"\xef\xbb\xbfa\n")))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_long_line_is_no_binary_file(end, tmp_path):
    for size in ((1 << 17) - 1, 1 << 17, 1_000_000):
        assert list(read_lines(put(tmp_path, b"x" * size + end + b"y" + end))) == [(1, "x" * size), (2, "y")]


@pytest.mark.parametrize("first", ["PAR1", "BZh9", "PK", "%PDF"])
def test_text_that_starts_like_a_binary_file(first, tmp_path):
    assert list(read_lines(put(tmp_path, f"{first} Q0 a 1 2 t\n".encode()))) == [(1, f"{first} Q0 a 1 2 t")]


def test_lines_before_an_error_are_yielded(tmp_path):
    lines = read_lines(put(tmp_path, b"one\nt\0wo\n"))
    assert next(lines) == (1, "one")
    with pytest.raises(InputError, match=":2: NUL byte"):
        next(lines)


FIRST = b"1 a\n"
NOT_TEXT = {
    "bom": (b"\xef\xbb\xbf" + FIRST, r":1: starts with a UTF-8 byte order mark; remove it with sed -i '1s/^\xEF\xBB\xBF//' "),
    "bom of a joined file": (FIRST + b"\xef\xbb\xbf2 a\n", ":2: byte order mark inside the file"),
    "utf-16 little": ("\ufeff1 a\n".encode("utf-16-le"), ":1: is UTF-16 text (byte order mark FF FE)"),
    "utf-16 big": ("\ufeff1 a\n".encode("utf-16-be"), ":1: is UTF-16 text (byte order mark FE FF)"),
    "utf-16 without mark": ("1 a\n".encode("utf-16-le"), ":1: NUL byte"),
    "nul": (FIRST + b"b\0\n", ":2: NUL byte"),
    "latin-1": (FIRST + "1 Q0 é\n".encode("latin-1"), ":2: not UTF-8 text (byte 0xe9 at position 6)"),
    "lone carriage return": (b"1 a\r1 b\r", ":1: carriage return inside the line"),
    "vertical tab": (FIRST + b"b\v2\n", ":2: vertical tab"),
    "form feed": (FIRST + b"b\f2\n", ":2: form feed"),
    "empty": (b"", ": the file is empty"),
    "blank": (b"\n \t\n\r\n", ": the file is empty"),
    "empty gzip": (gzip.compress(b""), ": the file is empty"),
    "bzip2": (b"BZh91AY&SY", "binary file (bzip2)"),
    "xz": (b"\xfd7zXZ\0", "binary file (xz)"),
    "zstandard": (b"\x28\xb5\x2f\xfd", "binary file (zstandard)"),
    "zip": (b"PK\x03\x04rest", "binary file (zip)"),
    "parquet": (b"PAR1\x15", "binary file (Parquet)"),
    "pdf": (b"%PDF-1.7\n", "binary file (PDF)"),
    "program": (b"\x7fELF\x02", "binary file (a program)"),
    "gzip twice": (gzip.compress(gzip.compress(GOOD)), "gzip inside gzip"),
    "endless line": (FIRST + b"x" * (1 << 20) + b"y", ":2: a line of more than 1 MB"),
    "endless line that ends": (FIRST + b"x" * (1 << 20) + b"y\n" + FIRST, ":2: a line of more than 1 MB"),
    "truncated gzip": (gzip.compress(GOOD)[:-9], "truncated or damaged gzip file"),
    "gzip of two bytes": (b"\x1f\x8b", "truncated or damaged gzip file"),
    "corrupt gzip": (gzip.compress(GOOD)[:12] + b"\xff\xff" + gzip.compress(GOOD)[14:], "truncated or damaged gzip file"),
    "wrong gzip sum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "truncated or damaged gzip file"),
}


@pytest.mark.parametrize("content, message", NOT_TEXT.values(), ids=NOT_TEXT)
def test_not_text(content, message, tmp_path, monkeypatch):
    path = put(tmp_path, content)
    with pytest.raises(InputError) as caught:
        list(read_lines(path))
    text = str(caught.value)
    assert text.startswith(f"{path}:") and message in text and "; " in text and "\n" not in text
    feed(monkeypatch, content)
    with pytest.raises(InputError) as caught:
        list(read_lines("-"))
    assert str(caught.value).startswith("standard input:") and message in str(caught.value)


def test_mend_names_the_file_as_a_shell_takes_it(tmp_path):
    path = put(tmp_path, b"\xef\xbb\xbfa\n", "my file.txt")
    with pytest.raises(InputError, match=f"//' '{path}'$"):
        list(read_lines(path))
    with pytest.raises(InputError, match="//' FILE$"):
        list(read_lines(io.BytesIO(b"\xef\xbb\xbfa\n")))


def test_missing_directory_and_unreadable(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file; "):
        list(read_lines(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="is a directory; "):
        list(read_lines(tmp_path))
    with pytest.raises(InputError, match="cannot be opened"):
        list(read_lines(put(tmp_path, GOOD) / "below"))
    with pytest.raises(InputError, match="cannot be opened"):
        list(read_lines("a\0b"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match="no permission to read; "):
        list(read_lines("locked.txt"))


def test_read_failure_on_the_way():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match="^disk.txt: cannot be read .Input/output error.; "):
        list(read_lines(Broken(), name="disk.txt"))


def test_name_with_a_newline_stays_one_line(tmp_path):
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / "a\nb"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        check_writable(tmp_path / "a\nb" / "c")
    assert "\n" not in str(caught.value)


# Writing


@pytest.mark.parametrize("name", ["some.txt", "some.txt.gz"])
def test_write_lines(name, tmp_path):
    path = tmp_path / name
    assert write_lines([b"one\ntwo\n", b"", b"three\n"], path) == 3
    content = path.read_bytes()
    assert (gzip.decompress(content) if name.endswith(".gz") else content) == b"one\ntwo\nthree\n"


def test_put_lines():
    out = io.BytesIO()
    assert put_lines(iter([b"a\nb\n", b"c\n"]), out) == 3 and out.getvalue() == b"a\nb\nc\n"


def failing():
    yield b"one\n"
    raise RuntimeError("scoring failed")


@pytest.mark.parametrize("name", ["some.txt", "some.txt.gz"])
def test_nothing_is_left_when_the_chunks_raise(name, tmp_path):
    with pytest.raises(RuntimeError):
        write_lines(failing(), tmp_path / name)
    assert os.listdir(tmp_path) == []
    put(tmp_path, b"old", name)
    with pytest.raises(RuntimeError):
        write_lines(failing(), tmp_path / name)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"


def test_old_file_stays_until_the_end(tmp_path):
    path = put(tmp_path, b"old")
    with atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["some.txt"]


def test_gzip_is_the_same_each_time(tmp_path, monkeypatch):
    write_lines([b"one\n"], tmp_path / "one.gz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_lines([b"one\n"], tmp_path / "two.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_permissions_and_links_stay(tmp_path):
    path = put(tmp_path, b"old")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    write_lines([b"new\n"], link)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640 and path.read_bytes() == b"new\n"
    before = os.umask(0o027)
    try:
        write_lines([], tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_devices_are_written_to_not_replaced(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert write_lines([b"one\n", b"two\n"], pipe) == 2
        assert reader.communicate()[0] == b"one\ntwo\n"
    assert pipe.is_fifo()
    check_writable(os.devnull)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="pipe: no permission to write; "):
        write_lines(failing(), pipe)


def test_check_writable(tmp_path, monkeypatch):
    check_writable("-")
    check_writable(tmp_path / "new.txt")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="folder does not exist; make it with mkdir -p"):
        check_writable(tmp_path / "no" / "some.txt")
    with pytest.raises(InputError, match="is a directory; "):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="cannot be written .File name too long.; "):
        check_writable(tmp_path / ("x" * 300))
    path = put(tmp_path, b"old")
    check_writable(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["some.txt"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(InputError, match="no permission to write; "):
            check_writable(path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="no permission to write in its folder; "):
        check_writable(tmp_path / "new.txt")


def test_full_disk_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no space left on the disk; "), atomic(tmp_path / "some.txt"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_device_is_one_line():
    with pytest.raises(InputError, match="^/dev/full: no space left on the disk; "):
        write_lines([b"one\n"], "/dev/full")


def test_atomic_modes(tmp_path):
    with atomic(tmp_path / "a", "w+b") as file:
        file.write(b"text")
        file.seek(0)
        assert file.read() == b"text"
    with pytest.raises(ValueError, match="wb or w"), atomic(tmp_path / "b", "w"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_standard_output(capfdbinary):
    assert write_lines(["é\n".encode()], "-") == 1
    with atomic("-") as file:
        file.write(b"whole\n")
    assert capfdbinary.readouterr().out == "é\nwhole\n".encode()


def test_standard_output_shows_nothing_of_a_failed_file(capfdbinary):
    with pytest.raises(RuntimeError), atomic("-") as file:
        file.write(b"half")
        raise RuntimeError
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize("target", ["-", "pipe"])
def test_closed_pipe_ends_quietly(target, tmp_path):
    # A file is spooled first, so it is finite; both are larger than the buffer of a pipe.
    code = "import sys\nfrom csrerank.files import write_lines\nwrite_lines((b'%d\\n' % i * 100 for i in range(20000)), sys.argv[1])\n"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    argument = target if target == "-" else str(pipe)
    with subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stderr is not None
        with writer.stdout if target == "-" else pipe.open("rb") as reader:
            assert reader.readline() == b"0\n"
        assert writer.stderr.read() == b""
        assert writer.wait(timeout=30) == 141


def test_a_broken_pipe_of_the_chunks_is_theirs():
    def broken():
        yield b"one\n"
        raise BrokenPipeError("another pipe")

    with pytest.raises(BrokenPipeError, match="another pipe"):
        write_lines(broken(), "-")


def test_names():
    assert (lines.source_name("-"), files.target_name("-")) == ("standard input", "standard output")
    assert lines.source_name(io.BytesIO()) == "stream" and lines.source_name(Path("a b")) == "a b"
    assert lines.shell_name("standard input") == "FILE" and lines.shell_name("a b") == "'a b'"
