"""Addresses of tables and images: patterns with *, and paths relative to a table or to a given root."""

from __future__ import annotations

import os
import posixpath
import re
from functools import partial
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets.listing import listed
from cbmir.datasets.remarks import Remarks
from cbmir.store import open_filesystem


def expanded(roots: list[str], remarks: Remarks) -> list[str]:
    """Roots with every pattern (*, ?, [a-z], ** for any directories) replaced by the files that fit it; a file stands once."""
    files: list[str] = []
    for root in roots:
        wild = re.search(r"[*\[]" if "://" in root else r"[*?\[]", root.partition("?")[0] if "://" in root else root)
        found = [root] if not wild or os.path.exists(root) else [file.address for file in listed([root], remarks)]
        files += [file for file in found if file not in files]
    return files


def image_addresses(
    paths: pa.ChunkedArray, datasets: pa.Array | pa.ChunkedArray, table: str, image_roots: dict[str, str]
) -> pa.Array | pa.ChunkedArray:
    """Paths of a table -> addresses: absolute ones as they are, others below their dataset's image root, or beside the table.

    `image_roots`: dataset -> root; '' -> the root of all others.
    """
    if not image_roots:
        return _below(paths, _above(table))
    names = pc.fill_null(datasets, "")
    known = pc.is_in(names, pa.array(list(image_roots), pa.string()))
    result = _below(paths, _top(image_roots[""]) if "" in image_roots else _above(table))
    for name, root in image_roots.items():
        if name:
            result = pc.if_else(pc.and_(known, pc.equal(names, name)), _below(paths, _top(root)), result)
    return result


def _above(table: str):
    """Address of the directory that a table lies in, as (before, behind) a path, and whether paths are to be quoted."""
    if "://" not in table:
        return f"{posixpath.dirname(open_filesystem(table)[1])}/", "", False
    place = urlsplit(table)
    return _around(place._replace(path=place.path.rpartition("/")[0]))


def _top(root: str):
    return _around(urlsplit(root)) if "://" in root else (f"{open_filesystem(root)[1]}/", "", False)


def _around(place):
    whole = urlunsplit(place._replace(path=place.path.rstrip("/"), query=""))
    return f"{whole}/", f"?{place.query}" if place.query else "", True


def _below(paths: pa.ChunkedArray, place: tuple[str, str, bool]) -> pa.ChunkedArray:
    before, behind, quoted = place
    absolute = pc.match_substring(paths, "://")
    if not quoted:
        absolute = pc.or_(absolute, pc.starts_with(paths, "/"))
        whole = pc.binary_join_element_wise(before, paths, "")
        return pc.if_else(absolute, paths, _normal(whole))
    safe = _each(paths, partial(quote, safe="/"))
    return pc.if_else(absolute, paths, pc.binary_join_element_wise(before, safe, behind, ""))


def _normal(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths without '.', '..' and '//'."""
    odd = pc.match_substring_regex(paths, r"/\.{0,2}(/|$)")
    return pc.if_else(odd, _each(paths, posixpath.normpath), paths) if pc.any(odd).as_py() else paths


def _each(paths: pa.ChunkedArray, function) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([None if p is None else function(p) for p in paths.to_pylist()], pa.string())])
