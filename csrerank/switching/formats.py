"""The three formats of a shard, each made in memory as bytes that depend on its records alone."""

import datetime
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any

from csrerank.codeswitch import Switch
from csrerank.errors import InputError

Records = Sequence[Any]  # NamedTuples, the id first
Switches = Sequence[Mapping[str, Sequence[Switch]]]  # a record's switches by field
_quoted = json.encoder.encode_basestring  # a JSON string that keeps letters outside ASCII as they are
SWITCH_FIELDS = (*Switch._fields, "field")
ROW_GROUP = 10_000  # rows of a Parquet row group
_ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\v": "\\v", "\f": "\\f", "\0": "\\0"}
)  # what csrerank's readers refuse in a line
_ESCAPED = re.compile(r"[\\\t\n\r\v\f\0]").search


def tsv(records: Records, switches: Switches | None, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """id, tab, text; and the switches beside it, where they are wanted, as id, field, start, end, original, replacement, lang, source, rank."""
    lines = [f"{_plain_id(record[0])}\t{_escaped(record.text)}\n" for record in records]
    files = {".tsv": _encoded("".join(lines), records)}
    if switches is not None:
        rows = [
            f"{record[0]}\t{field}\t{start}\t{end}\t{_escaped(original)}\t{_escaped(replacement)}\t{lang}\t{_escaped(source)}\t{rank}\n"
            for record, fields in zip(records, switches, strict=True)
            for field, found in fields.items()
            for start, end, original, replacement, lang, source, rank in found
        ]
        files[".switches.tsv"] = _encoded("".join(rows), records)
    return files


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES) if _ESCAPED(text) else text


def _plain_id(identifier: str) -> str:
    if _ESCAPED(identifier):
        raise InputError(f"record {identifier!r}: an id with a tab, line end or backslash cannot stand in TSV; take --format jsonl or parquet")
    return identifier


def jsonl(records: Records, switches: Switches | None, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """One object a line: the record's fields, then the switches in a list of objects."""
    lines = []
    for place, record in enumerate(records):
        line = _json(dict(zip(columns, record, strict=True)), record[0])
        if switches is not None:
            listed = ", ".join([_json_switch(switch, field) for field, found in switches[place].items() for switch in found])
            line = f'{line[:-1]}, "switches": [{listed}]}}'
        lines.append(line + "\n")
    return {".jsonl": _encoded("".join(lines), records)}


def _json_switch(switch: Switch, field: str) -> str:
    """The switch as a JSON object, spelt out here because there are so many of them."""
    start, end, original, replacement, lang, source, rank = switch
    return (
        f'{{"start": {start}, "end": {end}, "original": {_quoted(original)}, "replacement": {_quoted(replacement)}, '
        f'"lang": {_quoted(lang)}, "source": {_quoted(source)}, "rank": {rank}, "field": {_quoted(field)}}}'
    )


def parquet(records: Records, switches: Switches | None, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """The record's fields as columns, and ``switches``, a list of structs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, arrays = [], []
    try:
        for place, (name, kind) in enumerate(columns.items()):
            arrow = arrow_type(kind)
            values = [record[place] for record in records]
            if arrow is None:
                values = [None if value is None else _json(value, record[0]) for value, record in zip(values, records, strict=True)]
            arrays.append(pa.array(values, arrow or pa.string()))
            fields.append(pa.field(name, arrays[-1].type))
        if switches is not None:
            arrays.append(_switch_column(switches))
            fields.append(pa.field("switches", arrays[-1].type))
    except UnicodeEncodeError:
        raise _surrogate(records) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"record {records[0][0]!r} or one after it does not fit its collection's types ({str(error).splitlines()[0]}); take --format jsonl"
        ) from None
    sink = pa.BufferOutputStream()
    # Every setting that the bytes depend on is fixed here. Few values repeat in texts and ids, so only the switches' words are worth a dictionary.
    with pq.ParquetWriter(
        sink,
        pa.schema(fields),
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=[f"switches.list.element.{name}" for name in ("original", "replacement", "lang", "source", "field")] if switches is not None else False,
        write_statistics=True,
    ) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), row_group_size=ROW_GROUP)
    return {".parquet": sink.getvalue().to_pybytes()}


FORMATS: dict[str, Callable[[Records, Switches | None, Mapping[str, Any]], dict[str, bytes]]] = {"tsv": tsv, "jsonl": jsonl, "parquet": parquet}


def _switch_column(switches: Switches) -> Any:
    import pyarrow as pa

    flat = [switch for fields in switches for found in fields.values() for switch in found]
    offsets, place = [0], 0
    for fields in switches:
        place += sum(map(len, fields.values()))
        offsets.append(place)
    types = {"start": pa.int32(), "end": pa.int32(), "rank": pa.int32()}
    values = zip(*flat, strict=True) if flat else ((),) * len(Switch._fields)
    columns = [pa.array(column, types.get(name, pa.string())) for name, column in zip(Switch._fields, values, strict=True)]
    columns.append(pa.array([field for fields in switches for field, found in fields.items() for _ in found], pa.string()))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(columns, SWITCH_FIELDS))


def arrow_type(kind: Any) -> Any:
    """The Arrow type of a field: a type of Arrow's as it is, the counterpart of an annotation, or None where only JSON will hold it."""
    import pyarrow as pa

    if isinstance(kind, pa.DataType):
        return kind
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), [argument for argument in typing.get_args(kind) if argument not in (NoneType, Ellipsis)]
    if origin in (typing.Union, UnionType) and len(arguments) == 1:
        return arrow_type(arguments[0])
    if origin in (list, tuple, Sequence) and len(set(arguments)) == 1 and (item := arrow_type(arguments[0])) is not None:
        return pa.list_(item)
    return None


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise InputError(
        f"a field of type {type(value).__name__} cannot be written in this format; take --format tsv, which holds id and text, or --input without it"
    )


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_json_value).encode


def _json(value: Any, identifier: str) -> str:
    """The fields of the record ``identifier``, or one of them, as JSON."""
    try:
        return _encode(value)
    except InputError:
        raise
    except ValueError:
        raise InputError(
            f"record {identifier!r}: a number that is infinite or NaN, which JSON lacks; mend it, or take --format tsv, which holds id and text"
        ) from None


def _encoded(text: str, records: Records) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _surrogate(records) from None


def _surrogate(records: Records) -> InputError:
    """The error for the record that is no Unicode text."""
    name = next(_broken(records), "?")
    return InputError(f"record {name!r}: half of a surrogate pair (a lone \\ud800 to \\udfff), which is no text; remove it")


def _broken(records: Records) -> Iterator[str]:
    for record in records:
        try:
            json.dumps(list(record), ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            yield record[0]
