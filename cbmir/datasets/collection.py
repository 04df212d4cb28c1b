"""A collection as its owners distribute it: a directory with label files and image files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import table_files
from cbmir.datasets.addresses import image_addresses
from cbmir.datasets.listing import listed
from cbmir.datasets.remarks import FILE, ROW, Remarks
from cbmir.errors import UserError

_IMAGES = (".png", ".jpg", ".jpeg")
_PACKED = ("", ".gz")


@dataclass(frozen=True)
class Collection:
    """Files below a root: relative path -> address."""

    root: str
    tables: dict[str, str]
    images: dict[str, str]

    def table(self, *names: str) -> str | None:
        """Address of the first of these files (or of the same with .gz) that is there, the one nearest to the root; None if none is."""
        for name in (name + packed for name in names for packed in _PACKED):
            found = [path for path in self.tables if posixpath.basename(path).lower() == name.lower()]
            if found:
                return self.tables[min(found, key=lambda path: (path.count("/"), path))]
        return None

    def required(self, *names: str) -> str:
        """The same; UserError where none is there."""
        found = self.table(*names)
        if found:
            return found
        there = ", ".join(sorted(posixpath.basename(path) for path in self.tables)[:8]) or "no label file at all"
        raise UserError(
            f"{self.root} has no {' or '.join(names)} (or .gz); found: {there}; expected the label files as distributed"
        )

    def addresses(self, paths: pa.Array, keys: pa.Array, by: dict[str, str]) -> pa.Array:
        """Address of each image: that of the file whose key it has, else where its path says that it should lie."""
        known = pa.array(by.keys(), pa.string())
        there = pa.array([self.images[path] for path in by.values()], pa.string()).take(pc.index_in(keys, known))
        expected = image_addresses(pa.chunked_array([paths]), paths, "", {"": self.root}).combine_chunks()
        return pc.coalesce(there, expected)

    def name_unlisted(self, keys: pa.Array, by: dict[str, str], remarks: Remarks) -> None:
        """A remark for each image file whose key no label file has."""
        mine = pa.array(by.keys(), pa.string())
        unlisted = pa.array(by.values(), pa.string()).filter(pc.invert(pc.is_in(mine, keys)))
        remarks.add_rows("unlisted_image", unlisted, files=unlisted)


def open_collection(root: str, remarks: Remarks) -> Collection:
    """List a directory; UserError where there is none."""
    files = listed([root], remarks)
    images = {file.relative: file.address for file in files if file.relative.lower().endswith(_IMAGES)}
    tables = {
        file.relative: file.address
        for file in files
        if file.relative.lower().endswith((".csv", ".csv.gz", ".txt", ".txt.gz"))
    }
    return Collection(root, tables, images)


def by_key(collection: Collection, key: Callable[[str], str | None]) -> dict[str, str]:
    """key of an image's path -> its path; the first path where several have one key, no entry where there is no key."""
    found: dict[str, str] = {}
    for path in collection.images:
        name = key(path)
        if name is not None:
            found.setdefault(name, path)
    return found


def text_table(address: str, remarks: Remarks) -> tuple[pa.Table, np.ndarray]:
    """All columns of a label file as trimmed text, names trimmed, columns without a name left out -> (rows, row numbers)."""
    names = [name for name in table_files.header(address) if name.strip()]
    table, lines = table_files.read(address, columns=names, types=dict.fromkeys(names, pa.string()), remarks=remarks)
    trimmed = [pc.utf8_trim_whitespace(table[name].combine_chunks()) for name in names]
    return pa.table(trimmed, names=[name.strip() for name in names]), lines


def column(table: pa.Table, address: str, *names: str) -> pa.Array:
    """The first of these columns, in any case, that a label file has; UserError where it has none of them."""
    lower = {name.lower(): name for name in table.column_names}
    for name in names:
        if name.lower() in lower:
            return table[lower[name.lower()]].combine_chunks()
    raise UserError(
        f"{address} has no column {' or '.join(names)}; found: {', '.join(table.column_names[:8])}; expected the label file as distributed"
    )


def numbers(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts -> numbers, what is none as null."""
    plain = pc.match_substring_regex(texts, r"^-?[0-9]+(\.[0-9]+)?$")
    values = pc.if_else(plain, texts, None).cast(pa.float64())
    return values.cast(kind, safe=False)


def text_lines(address: str) -> list[str]:
    """Lines of a list, trimmed, blank ones left out."""
    import gzip

    from cbmir.images.errors import ImageError
    from cbmir.images.read import read_bytes

    try:
        data = read_bytes(address)
        text = (gzip.decompress(data) if address.endswith(".gz") else data).decode("utf-8-sig")
    except (ImageError, OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(
            f"{address} cannot be read ({type(error).__name__}); expected a text file with one path a line"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def where(address: str, lines: np.ndarray) -> dict[str, pa.Array]:
    """The columns that say where each row stands, for remarks."""
    file = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(lines), np.int32)), pa.array([address]))
    return {FILE: file, ROW: pa.array(lines, pa.int64())}
