"""Where weights lie: one text that names a file on the Hugging Face hub, the web, an object store or a disk.

hf://owner/name@revision/file        '|' between files: the first that is there
https://host/path[!member]           '!': a file inside a zip archive
s3://bucket/path  gs://bucket/path
path, or file:///path                percent-encoded
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from cbmir.errors import UserError

_HUB = re.compile(r"^hf://(?P<repository>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>[^/\s]+))?/(?P<files>[^\s]+)$")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face hub; `files` are tried in their order."""

    repository: str
    revision: str
    files: tuple[str, ...]

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which cannot move."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True)
class WebFile:
    """A file behind https, or one member of a zip archive there."""

    url: str
    member: str | None


@dataclass(frozen=True)
class StoredFile:
    """A file of an object store."""

    uri: str


@dataclass(frozen=True)
class LocalFile:
    path: str


Address = HubFile | WebFile | StoredFile | LocalFile


def parse(text: str) -> Address:
    """Text -> what it names; UserError where the text is no address."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return LocalFile(os.path.abspath(os.path.expanduser(text)))
    if scheme == "file":
        if not rest.removeprefix("localhost").startswith("/"):
            raise UserError(f"weights {text!r}; expected file:///PATH; check --weights or the spec's checkpoint")
        return LocalFile(unquote(rest.removeprefix("localhost")))
    if scheme == "hf":
        match = _HUB.match(text)
        files = tuple(match["files"].split("|")) if match else ()
        if not match or "" in files:
            raise UserError(
                f"weights {text!r}; expected hf://OWNER/NAME@REVISION/FILE, with '|' between files; "
                "check --weights or the spec's checkpoint"
            )
        return HubFile(match["repository"], match["revision"] or "main", files)
    if scheme in ("https", "http"):
        url, _, member = text.partition("!")
        return WebFile(url, member or None)
    if scheme in ("s3", "gs", "gcs", "abfs", "hdfs"):
        return StoredFile(text)
    raise UserError(
        f"weights {text!r}; expected a file, or an address that begins with hf://, https://, s3:// or gs://; "
        "check --weights or the spec's checkpoint"
    )
