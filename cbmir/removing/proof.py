"""The proof that images are gone: every file of the study is read, and none holds their keys, ids or addresses."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.types as pat

from cbmir.removing.layout import INDEXES, names_of, places
from cbmir.removing.names import Names, leaves
from cbmir.removing.rewrite import each_file
from cbmir.store import JOURNAL, Study

_PROSE = ("detail", "error", "file")  # columns that may name an image within a text; others hold an id or address alone


@dataclass(frozen=True)
class Proof:
    """What was looked through, and what was found there."""

    files: int
    found: list[str]  # 'neighbors/E/exact/part-00000.parquet: query_key of 3 rows'
    unread: list[str]  # files of kinds that are not cbmir's


def look_through(study: Study, keys: pa.Array, names: Names) -> Proof:
    """Read every file of the study but the journal of a removal.

    Parquet: all columns of integers and texts. Texts, JSON and HTML: whole. Indexes: what `holds` says of each. Other files are named as unread, but
    for drawings of the study's own figures, whose tables and texts lie beside them.
    """
    indexes = [study.path(*parts) + "/" for parts in places(study, INDEXES)]
    drawings = set(study.files("figures", suffix=".png"))
    files = [path for path in all_files(study) if path != study.path(JOURNAL) and path not in drawings]
    arrays = [path for path in files if path.startswith(tuple(indexes)) and not path.endswith(".json")]
    others = [path for path in files if path not in set(arrays)]
    found, unread = [], []
    for path, said in each_file(others, lambda path: _in_file(study, path, keys, names)):
        name = path.removeprefix(study.path() + "/")
        if said is None:
            unread.append(name)
        else:
            found += [f"{name}: {what}" for what in said]
    return Proof(len(files) - len(unread), found + list(_in_indexes(study, keys)), unread)


def all_files(study: Study) -> list[str]:
    """Every file below the study's directory, sorted."""
    selector = pafs.FileSelector(study.path(), recursive=True, allow_not_found=True)
    return sorted(info.path for info in study.fs.get_file_info(selector) if info.is_file)


def _in_indexes(study: Study, keys: pa.Array) -> Iterator[str]:
    from cbmir.indexing.forget import holds

    for parts in places(study, INDEXES):
        count = holds(study, *names_of(parts), keys.to_numpy())
        if count:
            yield f"{'/'.join(parts)}: {count:,} vectors of theirs"


def _in_file(study: Study, path: str, keys: pa.Array, names: Names) -> list[str] | None:
    """What one file holds of the images, [] for nothing, None for a file that cannot be read here."""
    if path.endswith(".parquet"):
        return list(_in_table(study, path, keys, names))
    with study.fs.open_input_stream(path, compression=None) as stream:
        data = stream.read()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return list(_in_text(path, text, keys, names))


def _in_text(path: str, text: str, keys: pa.Array, names: Names) -> Iterator[str]:
    parts = [html.unescape(text)] if path.endswith(".html") else [text]
    if path.endswith(".json"):
        try:
            values = list(leaves(json.loads(text)))
        except json.JSONDecodeError:
            values = [text]
        parts = [value for value in values if isinstance(value, str)]
        theirs = set(keys.to_pylist())
        if any(value in theirs for value in values if type(value) is int):
            yield "a key of theirs"
    name = next(filter(None, map(names.first_in, parts)), None)
    if name is not None:
        yield f"names {name}"


def _in_table(study: Study, path: str, keys: pa.Array, names: Names) -> Iterator[str]:
    exact = pa.array(sorted(names.all), pa.string())
    with pq.ParquetFile(path, filesystem=study.fs) as file:
        for field in file.schema_arrow:
            if not (pat.is_integer(field.type) or pat.is_string(field.type) or pat.is_large_string(field.type)):
                continue
            rows = sum(
                _count(batch.column(0), field, keys, exact, names) for batch in file.iter_batches(columns=[field.name])
            )
            if rows:
                yield f"{field.name} of {rows:,} rows"


def _count(column: pa.Array, field: pa.Field, keys: pa.Array, exact: pa.Array, names: Names) -> int:
    """How many values of a column are, or name, one of the images."""
    if pat.is_integer(field.type):
        return pc.sum(pc.is_in(column.cast(pa.int64(), safe=False), keys)).as_py() or 0
    if field.name not in _PROSE:
        return pc.sum(pc.is_in(column.cast(pa.string()), exact)).as_py() or 0
    return sum(names.first_in(text) is not None for text in column.drop_null().to_pylist())
