"""Weights brought to this machine: a cache is looked into first, then the network is asked.

Hub files go to Hugging Face's own cache, all others to cbmir's; `Reach.cache` puts both below one directory. A file
appears in a cache whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import lzma
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlparse

from cbmir.encoders.addresses import Address, HubFile, LocalFile, StoredFile, WebFile, parse
from cbmir.encoders.hub import cached_hub_file, fetch_hub_file, hub_cache, hub_host
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError
from cbmir.progress import Progress

SUPPLY = "supply them with --weights FILE (safetensors or a torch state dict)"
_CHUNK = 1 << 20
# what a connection, an archive, an object store or a disk raises
_FAILURES = (
    OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Reach:
    """How far the search for weights goes: `cache` in place of the usual directories; `offline`: no network."""

    cache: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.cache:  # a worker has another working directory
            object.__setattr__(self, "cache", os.path.abspath(os.path.expanduser(self.cache)))

    @property
    def is_offline(self) -> bool:
        return self.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


@dataclass(frozen=True)
class Weights:
    """A file of weights on this machine, and where it came from; `revision` is the hub's commit."""

    path: str
    address: str
    revision: str | None = None

    def sha256(self) -> str:
        return file_sha256(self.path)

    def as_dict(self) -> dict[str, str | None]:
        """What run.json says of them."""
        return {"address": self.address, "revision": self.revision, "file_sha256": self.sha256()}


def present(spec: EncoderSpec, reach: Reach) -> bool:
    """Whether an encoder's weights are on this machine (or it needs none)."""
    if not spec.needs_weights or spec.is_random:
        return True
    return spec.origin is not None and _cached(parse(spec.origin), spec.origin, reach) is not None


def fetch(spec: EncoderSpec, reach: Reach) -> Weights | None:
    """Bring an encoder's weights here, if it has any."""
    return obtain(spec, reach) if spec.needs_weights and not spec.is_random else None


def obtain(spec: EncoderSpec, reach: Reach) -> Weights:
    """Bring an encoder's weights here; UserError in one line where that cannot be done."""
    if spec.origin is None:
        raise UserError(f"{spec.name} has no published weights; {SUPPLY}, or ask for --random-weights SEED")
    address = parse(spec.origin)
    found = _cached(address, spec.origin, reach) or _fetched(spec, address, reach)
    if spec.sha256 and not spec.weights and (digest := found.sha256()) != spec.sha256.lower():
        file = os.path.realpath(found.path)  # the hub's cache has links: without its file, a link is fetched again
        raise UserError(
            f"the weights of {spec.name} in {file} have SHA-256 {digest}; expected {spec.sha256}; "
            "delete that file and fetch it again, or check the spec's sha256"
        )
    return found


def _cached(address: Address, text: str, reach: Reach) -> Weights | None:
    """The file, where it is on this machine already."""
    if isinstance(address, LocalFile):
        return Weights(address.path, text) if os.path.isfile(address.path) else None
    if isinstance(address, HubFile):
        found = cached_hub_file(address, reach.cache)
        return Weights(found[0], text, found[1]) if found else None
    path = _place(address, text, reach)
    return Weights(str(path), text) if path.is_file() else None


def _fetched(spec: EncoderSpec, address: Address, reach: Reach) -> Weights:
    text = spec.origin
    if isinstance(address, LocalFile):
        what = "no file: it is a directory" if os.path.isdir(address.path) else "no weights file"
        raise UserError(f"{what} {address.path} for {spec.name}; expected safetensors or a torch file; check --weights")
    host = hub_host() if isinstance(address, HubFile) else urlparse(getattr(address, "url", "")).hostname
    if reach.is_offline or not _resolves(host):
        reason = "the network is not to be used (offline)" if reach.is_offline else f"{host} cannot be reached"
        raise UserError(
            f"the weights of {spec.name} cannot be had: '{text}' is not in the cache {_cache(address, reach)} and {reason}; "
            f"{SUPPLY}, fill that cache on a machine with a network (cbmir encoders fetch), or ask for --random-weights SEED"
        )
    if isinstance(address, HubFile):
        path, revision = fetch_hub_file(address, spec.name, reach.cache)
        return Weights(path, text, revision)
    place = _place(address, text, reach)
    try:
        if isinstance(address, WebFile):
            _download(address, place)
        else:
            _copy(address, place)
    except _FAILURES as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"the weights of {spec.name} cannot be had from {text}: {first}; {SUPPLY}") from error
    return Weights(str(place), text)


def _cache(address: Address, reach: Reach) -> str:
    return hub_cache(reach.cache) if isinstance(address, HubFile) else str(own_cache(reach))


def own_cache(reach: Reach) -> Path:
    """Where files that are not of the hub are kept."""
    if reach.cache:
        return Path(reach.cache).expanduser() / "files"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cbmir" / "weights"


def _place(address: WebFile | StoredFile, text: str, reach: Reach) -> Path:
    """One file an address: a digest, so that equal names of different places do not meet, and the name for people."""
    path = getattr(address, "member", None) or text.partition("?")[0]
    name = path.rsplit("/", 1)[-1][-100:] or "weights"
    return own_cache(reach) / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}-{name}"


def _download(address: WebFile, place: Path) -> None:
    request = urllib.request.Request(address.url, headers={"User-Agent": "cbmir"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise ValueError("the server answered with a web page, not with a file")
            total = int(answer.headers.get("Content-Length") or 0)
            with _whole(place) as out:
                if address.member is None:
                    _pour(answer, out, total, place.name)
                else:
                    with tempfile.TemporaryFile(dir=place.parent) as archive:
                        _pour(answer, archive, total, place.name)
                        with zipfile.ZipFile(archive) as members, members.open(_member(members, address)) as inside:
                            shutil.copyfileobj(inside, out, _CHUNK)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise ValueError(f"HTTP {error.code} {error.reason}") from error


def _member(archive: zipfile.ZipFile, address: WebFile) -> str:
    """The member's name in full, or the only one that ends with it."""
    found = archive.namelist()
    names = [name for name in found if name.endswith(f"/{address.member}")]
    if address.member not in found and len(names) != 1:
        raise ValueError(
            f"the archive has {len(names)} files {address.member}, expected 1; found {', '.join((names or found)[:5])}"
        )
    return address.member if address.member in found else names[0]


def _copy(address: StoredFile, place: Path) -> None:
    import pyarrow.fs as pafs

    fs, path = pafs.FileSystem.from_uri(address.uri)
    total = fs.get_file_info(path).size or 0
    with fs.open_input_stream(path, compression=None) as source, _whole(place) as out:
        _pour(source, out, total, place.name)


def _pour(source, out: BinaryIO, total: int, name: str) -> None:
    """Copy with progress; ValueError where fewer bytes came than were announced."""
    done = 0
    with Progress(f"fetch {name}", total >> 20, unit="MiB") as progress:
        while chunk := source.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            progress.update(done >> 20)
    if total and done != total:
        raise ValueError(f"{done:,} of {total:,} bytes came")


@contextlib.contextmanager
def _whole(place: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when all of it is written."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(part, "xb") as out:  # not by mkstemp, whose files nobody else may read
            yield out
        os.replace(part, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _resolves(host: str | None) -> bool:
    """Whether a name server knows the host: the quick answer where there is no network, before minutes of retries."""
    proxies = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if host is None or any(os.environ.get(name) for name in proxies):
        return True  # object stores have their own endpoints; a proxy resolves names: let the library try
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def file_sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
