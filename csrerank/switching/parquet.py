"""Parquet files read a row group at a time, so that a big one is never in memory; what is damaged in them is refused in one line."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from csrerank.errors import InputError

_Version = tuple[Path, int, int]  # a file as it is now: path, time of its last change in ns, bytes


def schema_of(path: Path) -> tuple[Any, int]:
    """A file's Arrow schema, and how many rows it has. Raises ``InputError`` for what is no Parquet file, and where two columns have one name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.ParquetFile(path)
        schema = content.schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a Parquet file ({_reason(error)}); write it anew, or take it out") from None
    name, times = Counter(schema.names).most_common(1)[0] if schema.names else ("", 1)
    if times > 1:
        raise InputError(f"{path}: {times} columns are called {name}; rename all but one")
    return schema, content.metadata.num_rows


def windows(path: Path, names: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, list[list[Any]]]]:
    """(place of its first row, its columns ``names`` as lists) of each row group, as far as it lies between the places ``start`` and ``stop`` (exclusive).

    Raises ``InputError`` naming the file and its rows where it is damaged.
    """
    with _readable(str(path)):
        version = _version(path)
        metadata = _opened(version).metadata
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    for group, (first, rows) in enumerate(zip(accumulate(sizes, initial=0), sizes, strict=False)):
        low, high = max(start - first, 0), min(stop - first, rows)
        if low < high:
            with _readable(f"{path}: rows {first + 1} to {first + rows}"):
                table = _row_group(version, group).slice(low, high - low)
            yield first + low, [_values(table.column(name), f"{path}: row {{}}: column {name}", first + low + 1) for name in names]


def _values(column: Any, where: str, first: int) -> list[Any]:
    """A column's values; ``first`` is the number of its first row, for the place that ``where`` stands for."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, a date beyond Python's
        row = next(number for number, value in enumerate(column, first) if not _is_readable(value))
        raise InputError(f"{where.format(row)} cannot be read ({_reason(error)}); mend the value, or take the row out") from None


def _is_readable(value: Any) -> bool:
    try:
        value.as_py()
    except (ValueError, OverflowError):
        return False
    return True


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what Arrow raises into one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read ({_reason(error)}); the file is damaged: write it anew, or take it out") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _version(path: Path) -> _Version:
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1)
def _opened(version: _Version) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(version[0])


@lru_cache(maxsize=1)  # the windows of a big row group come one after the other
def _row_group(version: _Version, number: int) -> Any:
    return _opened(version).read_row_group(number, use_threads=False)


def forget() -> None:
    """Close the file that is kept open, and drop what was read of it."""
    _row_group.cache_clear()
    _opened.cache_clear()


def is_text(kind: Any) -> bool:
    """Whether an Arrow type holds texts."""
    import pyarrow as pa

    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind) and is_text(kind.value_type)
    )
