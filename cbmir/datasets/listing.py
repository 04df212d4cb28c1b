"""Which files lie below the roots: directories, patterns and single files, on a disk or an object store, in one order.

A pattern (`scans/**/*.png`, in quotes) selects files; a directory that it fits stands for everything below it. Paths are
relative to the directories before its first wildcard. Files given one by one, as a shell leaves an unquoted pattern, are
relative to the deepest directory that holds them all. Hidden files and directories are passed over.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow.fs as pafs

from cbmir.datasets.remarks import Remarks
from cbmir.datasets.walk import walk
from cbmir.errors import UserError
from cbmir.images.read import split_uri
from cbmir.store import open_filesystem

_WILD, _WILD_REMOTE = re.compile(r"[*?\[]"), re.compile(r"[*\[]")  # '?' begins the options of an address


@dataclass(frozen=True, slots=True)
class Found:
    """One file: its address, its path below `top`, and `top`, the directory that it was looked for in."""

    address: str
    relative: str
    top: str

    @property
    def uri(self) -> str:
        """Its address as an image's; a part is put behind a name that would itself be read as one, such as 'a#frame=3.png'."""
        return f"{self.address}#frame=0" if split_uri(self.address)[1] else self.address


@dataclass(frozen=True)
class Place:
    """A root: the directory or file where it begins, what is selected below it, and how paths become addresses."""

    fs: pafs.FileSystem
    top: str
    pattern: str = ""  # '': everything
    address: str | None = None  # on an object store: host and options behind '?' are those of all files below it

    def uri(self, path: str) -> str:
        """A local path as it is; one on an object store as an address."""
        if self.address is None:
            return path
        place = urlsplit(self.address)
        inside = path.split("/", 1)[1] if place.netloc else path  # a bucket is the first part of its paths
        return urlunsplit(place._replace(path=f"/{quote(inside.lstrip('/'))}"))


def listed(roots: list[str], remarks: Remarks, *, expected: str = "a folder of images") -> list[Found]:
    """All files of the roots, sorted within each; UserError for a root that is not there or a pattern that nothing fits."""
    files: list[Found] = []
    singles: list[Place] = []
    for root in roots:
        place, kind = _place(root)
        if kind == pafs.FileType.File:
            singles.append(place)
        elif kind == pafs.FileType.Directory:
            files += _below(place, remarks)
        else:
            files += _matching(place, root, expected, remarks)
    return files + _one_by_one(singles)


def id_prefixes(files: list[Found], dataset: str | None) -> dict[str, str]:
    """top -> what the ids of its files begin with: `dataset`, else the directory's own name.

    With several tops that would share a prefix, as many of their last directories as tell them apart stand in it.
    """
    tops = list(dict.fromkeys(file.top for file in files))
    names = {top: _name(top) for top in tops}
    if dataset is None and len(set(names.values())) == len(tops):
        return names
    if len(tops) <= 1:
        return dict.fromkeys(tops, dataset or "")
    parts = {top: top.strip("/").split("/") for top in tops}
    depth = 1
    while len({tuple(p[-depth:]) for p in parts.values()}) < len(tops):
        depth += 1
    return {top: "/".join([dataset] * bool(dataset) + parts[top][-depth:]) for top in tops}


def dataset_name(file: Found) -> str:
    """The name of the directory that a file was looked for in."""
    return _name(file.top)


def _name(top: str) -> str:
    return posixpath.basename(top.rstrip("/")) or "images"


def _place(root: str) -> tuple[Place, pafs.FileType]:
    """A root and what is there: a directory, a file or nothing, as a pattern."""
    address = _quoted(root) if "://" in root else root
    fs, path = open_filesystem(address)
    path = path.rstrip("/") or path
    place = Place(fs, path, address=None if isinstance(fs, pafs.LocalFileSystem) else address)
    with _named(root):
        return place, fs.get_file_info(path).type


def _quoted(root: str) -> str:
    """An address as people write it, with spaces, brackets and '#' in its path -> one that parses; %20 stays %20."""
    scheme, _, rest = root.partition("://")
    path, mark, options = rest.partition("?")
    return f"{scheme}://{quote(path, safe='/%*!$&()+,;=:@~')}{mark}{options}"


@contextmanager
def _named(root: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot list {root} ({reason}); expected a place that can be read") from None


def _matching(place: Place, root: str, expected: str, remarks: Remarks) -> list[Found]:
    wild = (_WILD if place.address is None else _WILD_REMOTE).search(place.top)
    start = place.top.rfind("/", 0, wild.start()) if wild else -1
    if start < 0:  # no pattern, or one that begins in a bucket's name
        raise UserError(f"no directory or file {root}; expected {expected}; check ROOT")
    files = _below(replace(place, top=place.top[:start] or "/", pattern=place.top[start + 1 :]), remarks)
    if not files:
        raise UserError(f"no file fits {root}; expected at least one; check ROOT")
    return files


def _below(place: Place, remarks: Remarks) -> list[Found]:
    prefix = len(place.top.rstrip("/")) + 1
    pattern = re.compile(f"{as_regex(place.pattern)}(?:/.*)?" if place.pattern else ".*", re.DOTALL)
    if place.address is None:
        paths = walk(
            place.top, fits=pattern.fullmatch, enters=lambda path: _leads_on(path, place.pattern), remarks=remarks
        )
    else:
        keys = [(path, path[prefix:]) for path in _keys(place)]
        paths = [path for path, inside in keys if pattern.fullmatch(inside) and "/." not in f"/{inside}"]
    return [Found(place.uri(path), path[prefix:], place.top) for path in paths]


def _keys(place: Place) -> list[str]:
    """Paths of the objects below a place, sorted."""
    with _named(place.address):
        found = place.fs.get_file_info(pafs.FileSelector(place.top, recursive=True, allow_not_found=True))
    return sorted(info.path for info in found if info.is_file)


def _one_by_one(places: list[Place]) -> list[Found]:
    """Single files, below the deepest directory that holds all of them; those of each store by themselves."""
    stores: dict[str, list[Place]] = {}
    for place in places:
        store = urlunsplit(urlsplit(place.address)._replace(path="")) if place.address else ""
        stores.setdefault(store, []).append(place)
    found = []
    for files in stores.values():
        top = posixpath.commonpath([posixpath.dirname(place.top) for place in files])
        found += [Found(place.uri(place.top), posixpath.relpath(place.top, top), top) for place in files]
    return found


def as_regex(pattern: str) -> str:
    """A glob -> a regular expression over whole paths: *, ? and [a-z] within one name, ** over any directories."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        parts.get(token) or (_set(token) if len(token) > 1 else re.escape(token))
        for token in re.findall(r"\*\*/|\*\*|\*|\[!?\]?[^\]/]+\]|.", pattern, re.DOTALL)
    )


def _set(token: str) -> str:
    """'[!a-c]' -> '[^a-c]'; ranges that run backwards hold nothing."""
    inside = token[1:-1]
    sign = "^" if inside.startswith("!") else ""
    ranges = "".join(c if c == "-" else re.escape(c) for c in inside[len(sign) :])
    try:
        re.compile(f"[{ranges}]")
    except re.error:
        return "[^/]" if sign else "(?!)"
    return f"[^{ranges}/]" if sign else f"(?!/)[{ranges}]"  # no set holds the slash: a name ends there


def _leads_on(directory: str, pattern: str) -> bool:
    """Whether files that fit `pattern` can lie below a directory."""
    if not pattern:
        return True
    for name, part in zip(directory.split("/"), pattern.split("/"), strict=False):
        if "**" in part:
            return True
        if not fnmatchcase(name, part):
            return False
    return True


def suffix_counts(names: Iterator[str] | list[str]) -> str:
    """Names of files -> '.csv 2, .txt 5, without suffix 1'."""
    counts: dict[str, int] = {}
    for name in names:
        suffix = posixpath.splitext(posixpath.basename(name))[1].lower() or "without suffix"
        counts[suffix] = counts.get(suffix, 0) + 1
    return ", ".join(f"{suffix} {count:,}" for suffix, count in sorted(counts.items()))
