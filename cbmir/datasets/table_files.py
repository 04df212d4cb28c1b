"""Tables that people have, as they are on disk: .csv, .tsv (also .gz, .bz2, .zst) and .parquet, local or on an object store.

A row that cannot be parsed is named and left out; the others stay, each with its number in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.store import open_filesystem

_NULLS = ["", "NA", "NaN", "nan", "null", "None"]
_BLOCK = 1 << 22  # bytes of a streamed block


def is_parquet(address: str) -> bool:
    return address.partition("?")[0].lower().endswith((".parquet", ".pq"))


def header(address: str) -> list[str]:
    """Names of a table's columns, as they stand in it."""
    with _named(address):
        fs, path = open_filesystem(address)
        if is_parquet(address):
            return pq.read_schema(path, filesystem=fs).names
        with (
            fs.open_input_stream(path, compression="detect") as source,
            pacsv.open_csv(source, parse_options=_parse(address, [])) as batches,
        ):
            return batches.schema.names


def read(
    address: str, *, columns: list[str], types: dict[str, pa.DataType], remarks: Remarks
) -> tuple[pa.Table, np.ndarray]:
    """Some columns of a table -> (rows, number of each row in the file: int64, the header being row 1 and blank lines not counted).

    `types` fixes columns' types; the others are guessed from all of their values.
    """
    with _named(address):
        fs, path = open_filesystem(address)
        if is_parquet(address):
            table = pq.read_table(path, filesystem=fs, columns=columns)
            return table, np.arange(2, table.num_rows + 2)
        bad: list[int | None] = []
        convert = _convert(columns, types)
        for threads in (True, False):  # only one thread knows the numbers of the rows that it could not parse
            bad.clear()
            options = pacsv.ReadOptions(use_threads=threads)
            with fs.open_input_stream(path, compression="detect") as stream:
                table = pacsv.read_csv(stream, options, _parse(address, bad), convert)
            if not bad:
                return table, np.arange(2, table.num_rows + 2)
    width = len(header(address))
    remarks.add_rows(
        "unreadable_row", [f"not {width} values, as the header has"] * len(bad), files=[address] * len(bad), rows=bad
    )
    return table, np.setdiff1d(np.arange(2, table.num_rows + len(bad) + 2), np.array(bad, np.int64))


def stream(address: str, *, columns: list[str], types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """The same rows block by block, so that wide tables need no memory for all their columns; rows that `read` has named are passed over."""
    with _named(address):
        fs, path = open_filesystem(address)
        if is_parquet(address):
            yield from pq.ParquetFile(fs.open_input_file(path)).iter_batches(columns=columns)
            return
        options = pacsv.ReadOptions(block_size=_BLOCK)
        with (
            fs.open_input_stream(path, compression="detect") as source,
            pacsv.open_csv(source, options, _parse(address, []), _convert(columns, types)) as batches,
        ):
            yield from batches


def _convert(columns: list[str], types: dict[str, pa.DataType]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        include_columns=columns, column_types=types, strings_can_be_null=True, null_values=_NULLS
    )


def _parse(address: str, bad: list | None) -> pacsv.ParseOptions:
    name = re.sub(r"\.(gz|bz2|zst|lz4)$", "", address.partition("?")[0].lower())
    handler: Callable | None = None
    if bad is not None:

        def handler(row: pacsv.InvalidRow) -> str:
            bad.append(row.number)
            return "skip"

    delimiter = "\t" if name.endswith((".tsv", ".tab")) else ","
    return pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handler)


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Errors of the file system and of the parser as one line that names the table."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(
            f"no table at {address}; expected a table with a header and one row an image; check ROOT"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, OSError, EOFError) as error:
        raise UserError(
            f"{address} is not a table that can be read ({line_of(error)}); expected a header and one row an image"
        ) from None


def line_of(error: Exception) -> str:
    """The parser's complaint without the row's content, which may be a patient's."""
    return re.sub(r"(got \d+):.*", r"\1", " ".join(str(error).split()))[:200]
