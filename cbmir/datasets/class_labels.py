"""Class numbers of an array -> lists of labels by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cbmir.datasets.medmnist_sets import MedSet
from cbmir.datasets.one_hot import LISTS, OneHot
from cbmir.datasets.remarks import Remarks

_MOST_CLASSES = 10_000  # beyond that a number is no class


def class_lists(labels: np.ndarray, known: MedSet | None, where: str, remarks: Remarks) -> tuple[pa.Array, pa.Array]:
    """(n,) or (n, 1) class numbers, or (n, c) of 0 and 1 -> (labels, unknown labels), a list a row.

    A class that the set does not have is called 'class 7' and named; a number that can be no class (-1, 1.5, NaN) is named and
    the row has no label. `where` is the array's address; a remark's row is that of the array.
    """
    flat = labels.reshape(len(labels), -1)  # (n, c)
    if flat.shape[1] > 1:
        return _several(flat, known, where, remarks)
    return _one(flat.reshape(-1), None if known and known.several else known, where, remarks)


def _names(count: int, known: MedSet | None) -> list[str]:
    """Names of classes 0 ... count - 1."""
    return [known.classes[i] if known and i < len(known.classes) else f"class {i}" for i in range(count)]


def _one(numbers: np.ndarray, known: MedSet | None, where: str, remarks: Remarks) -> tuple[pa.Array, pa.Array]:
    numbers = numbers.astype(np.float64)
    valid = (numbers >= 0) & (numbers < _MOST_CLASSES) & (numbers == np.floor(numbers))
    codes = np.where(valid, numbers, 0).astype(np.int32)
    names = _names(int(codes.max(initial=0)) + 1, known)
    bad = np.flatnonzero(~valid)
    texts = [f"the label is {numbers[row]:g}; expected a class from 0; left without label" for row in bad]
    remarks.add_rows("odd_value", texts, files=[where] * len(bad), rows=bad)
    if known:
        strange = np.flatnonzero(valid & (codes >= len(known.classes)))
        texts = [f"class {codes[row]} of a set with {len(known.classes)}" for row in strange]
        remarks.add_rows("unknown_label", texts, files=[where] * len(strange), rows=strange)
    offsets = pa.array(np.concatenate([[0], np.cumsum(valid)]).astype(np.int32))
    values = pa.array(names, pa.string()).take(pa.array(codes[valid]))
    return pa.ListArray.from_arrays(offsets, values).cast(LISTS), pa.array([[]] * len(codes), LISTS)


def _several(flat: np.ndarray, known: MedSet | None, where: str, remarks: Remarks) -> tuple[pa.Array, pa.Array]:
    names = _names(flat.shape[1], known)
    lists = OneHot(names)
    lists.add(pa.table([pa.array(flat[:, i].astype(np.float32)) for i in range(len(names))], names=names))
    for row, name, value in lists.odd:
        remarks.add("odd_value", f"{name} is {value:g}; expected 1, 0 or -1; taken as unknown", file=where, row=row)
    if known and len(names) > len(known.classes):
        remarks.add("unknown_label", f"{len(names)} columns; the set has {len(known.classes)} classes", file=where)
    return lists.present.combine_chunks(), lists.unknown.combine_chunks()
