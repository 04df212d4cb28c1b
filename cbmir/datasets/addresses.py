"""Addresses of tables and images: patterns with *, and paths relative to a table or to a given root."""

from __future__ import annotations

import glob
import os
import posixpath
import re
from functools import partial
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from cbmir.errors import UserError
from cbmir.store import open_filesystem

_WILD = re.compile(r"[*?\[]")


def expanded(roots: list[str]) -> list[str]:
    """Roots with every pattern (*, ?, [a-z], ** for any directories) replaced by the files that fit it, sorted."""
    files: list[str] = []
    for root in roots:
        found = matches(root)
        if not found:
            raise UserError(f"no file fits {root}; expected at least one; check ROOT")
        files += [file for file in found if file not in files]
    return files


def matches(root: str) -> list[str]:
    """Files that fit a pattern; a root without one, or that is there as it stands, is its only match."""
    if "://" in root:
        return _remote_matches(root)
    if not _WILD.search(root) or os.path.exists(root):
        return [root]
    return sorted(path for path in glob.glob(os.path.expanduser(root), recursive=True) if os.path.isfile(path))


def _remote_matches(root: str) -> list[str]:
    """The same on an object store; there, '?' begins the address's options and is no pattern."""
    place = urlsplit(root)
    if not re.search(r"[*\[]", place.path):
        return [root]
    above = place.path[: re.search(r"[*\[]", place.path).start()].rpartition("/")[0]
    fs, top = open_filesystem(urlunsplit(place._replace(path=above)))
    pattern = re.compile(_regex(place.path))
    inside = [
        i.path for i in fs.get_file_info(pafs.FileSelector(top, recursive=True, allow_not_found=True)) if i.is_file
    ]
    keys = sorted("/" + path.split("/", 1)[1] for path in inside)  # a bucket is the first part of its paths
    return [urlunsplit(place._replace(path=quote(key))) for key in keys if pattern.fullmatch(key)]


def _regex(pattern: str) -> str:
    """A glob with ** -> a regular expression over whole paths."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(
        parts.get(token) or (token if token.startswith("[") else re.escape(token))
        for token in re.findall(r"\*\*/|\*\*|\*|\[[^\]/]+\]|.", pattern)
    )


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
