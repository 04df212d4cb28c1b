"""Labels as people store them: one column a label, several in one text, or lists."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LISTS = pa.list_(pa.string())
_WORDS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0}


class OneHot:
    """Blocks of label columns -> lists of labels, a list a row; grows block by block.

    1 is present, 0 absent, -1 and blank unknown (`blank_is_absent`: blank counts as 0); any other value is unknown too and kept in
    `odd` as (row, column, value). `names`: labels that the columns stand for, their own names if there are none.
    """

    def __init__(self, columns: list[str], *, names: list[str] | None = None, blank_is_absent: bool = False) -> None:
        self.columns = columns
        self.blank_is_absent = blank_is_absent
        self.rows = 0
        self.odd: list[tuple[int, str, float | None]] = []
        self._dictionary = pa.array(names or columns, pa.string())
        self._present: list[pa.Array] = []
        self._unknown: list[pa.Array] = []
        self._uncertain: list[pa.Array] = []

    def add(self, block: pa.RecordBatch | pa.Table) -> None:
        values = np.empty((block.num_rows, len(self.columns)), np.float32)  # (rows, labels)
        for i, name in enumerate(self.columns):
            values[:, i] = _numbers(block.column(name))
        blank = np.isnan(values)
        odd = ~blank & (values != 1) & (values != 0) & (values != -1)
        self.odd += [(self.rows + int(r), self.columns[c], float(values[r, c])) for r, c in np.argwhere(odd)]
        unknown = odd | (values == -1) | (np.zeros_like(blank) if self.blank_is_absent else blank)
        self._present.append(self._lists(values == 1))
        self._unknown.append(self._lists(unknown))
        self._uncertain.append(self._lists(values == -1))
        self.rows += block.num_rows

    def _lists(self, mask: np.ndarray) -> pa.Array:
        """(rows, labels) bool -> the names of each row's true columns."""
        rows, columns = np.nonzero(mask)
        offsets = np.zeros(len(mask) + 1, np.int32)
        np.cumsum(np.bincount(rows, minlength=len(mask)), out=offsets[1:])
        names = self._dictionary.take(pa.array(columns.astype(np.int32)))
        return pa.ListArray.from_arrays(pa.array(offsets), names)

    @property
    def present(self) -> pa.ChunkedArray:
        """Labels that are 1, a list a row."""
        return pa.chunked_array(self._present, LISTS)

    @property
    def unknown(self) -> pa.ChunkedArray:
        """Labels that are blank, -1 or odd."""
        return pa.chunked_array(self._unknown, LISTS)

    @property
    def uncertain(self) -> pa.ChunkedArray:
        """Labels that are -1."""
        return pa.chunked_array(self._uncertain, LISTS)


def _numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers, truth values or words -> (rows,) float32, blank as NaN; a word that means nothing becomes infinity."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = [None if t is None else t.strip().lower() for t in column.to_pylist()]
        return np.array([_number(text) for text in texts], np.float32)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    numbers = pc.fill_null(column.cast(pa.float32()), float("nan"))
    return numbers.to_numpy() if isinstance(numbers, pa.ChunkedArray) else numbers.to_numpy(zero_copy_only=False)


def _number(text: str | None) -> float:
    if not text:
        return float("nan")
    try:
        return _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        return float("inf")


def label_lists(column: pa.Array | pa.ChunkedArray, *, separator: str) -> pa.Array:
    """'Effusion|Nodule', "['Effusion', 'Nodule']" or lists -> lists of labels; blank -> []; a label stands once a row."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        rows = [_once(str(v) for v in row or [] if v is not None) for row in column.to_pylist()]
        return pa.array(rows, LISTS)
    encoded = pc.dictionary_encode(column.cast(pa.string()))
    lists = pa.array([_once(_parts(text, separator)) for text in encoded.dictionary.to_pylist()] + [[]], LISTS)
    return lists.take(pc.fill_null(encoded.indices, len(lists) - 1))


def _parts(text: str, separator: str) -> Iterable[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            found = ast.literal_eval(text)  # values only: nothing is run
            return [str(part) for part in found if part is not None]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            text = text[1:-1].replace(",", separator)  # [Effusion, Nodule]
    return text.split(separator)


def _once(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
