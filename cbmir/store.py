"""One study directory on any filesystem: addresses, whole publication, run.json.

A dataset is a directory of files with a run.json that is written last. A directory without run.json is unfinished:
`Study.require` refuses it by name, and the stage that writes it starts it again or goes on with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cbmir.patience import named
from cbmir.schemas import ContractError, check
from cbmir.stages import MADE_BY
from cbmir.whole import read_whole, write_whole

JOURNAL = "removal.json"  # of a removal that is unfinished (cbmir/removing/journal.py)
_PACKAGES = ("ray", "torch", "timm", "open_clip_torch", "pyarrow", "usearch", "duckdb", "pandas", "numpy", "pillow")


def open_filesystem(address: str) -> tuple[pafs.FileSystem, str]:
    """'/data/study', 'study' or 's3://bucket/study' -> (filesystem, path on it)."""
    if "://" in address:
        try:
            return pafs.FileSystem.from_uri(address)
        except (pa.ArrowInvalid, OSError) as error:
            raise ContractError(
                f"cannot open {address}: {error}; expected a local path, s3://... or gs://..."
            ) from None
    return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(address))


def fingerprint(*parts: Any) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `parts`."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def path_name(name: str) -> str:
    """An encoder's or index's name as one path segment; DuckDB's and pyarrow's hive readers decode it back."""
    segment = quote(name, safe="+~@,-_.")
    if segment.startswith((".", "_")):  # '..' would leave the dataset, and readers pass over '.x' and '_x'
        return f"%{ord(segment[0]):02X}{segment[1:]}"
    return segment


class Study:
    """The directory of one study, local or on an object store.

    removing: whether this is the removal that other stages refuse to work beside.
    """

    def __init__(self, address: str, *, removing: bool = False) -> None:
        self.address = str(address)
        self.removing = removing
        self.fs, self.root = open_filesystem(self.address)
        self.is_local = isinstance(self.fs, pafs.LocalFileSystem)

    def path(self, *parts: str) -> str:
        """Path on `self.fs` of a dataset or file of the study."""
        return "/".join([self.root.rstrip("/"), *parts])

    def exists(self, *parts: str) -> bool:
        return self.fs.get_file_info(self.path(*parts)).type != pafs.FileType.NotFound

    def files(self, *parts: str, suffix: str = ".parquet") -> list[str]:
        """Paths of the finished files directly in a dataset, sorted."""
        selector = pafs.FileSelector(self.path(*parts), allow_not_found=True)
        return sorted(i.path for i in self.fs.get_file_info(selector) if i.is_file and i.path.endswith(suffix))

    def names(self, *parts: str) -> list[str]:
        """Decoded names of the directories in `parts`: encoders of 'embeddings', indexes of ('neighbors', E) ..."""
        selector = pafs.FileSelector(self.path(*parts), allow_not_found=True)
        found = [i.base_name for i in self.fs.get_file_info(selector) if i.type == pafs.FileType.Directory]
        return sorted(unquote(name.removeprefix("encoder=")) for name in found if not name.startswith((".", "_")))

    def read_text(self, *parts: str) -> str | None:
        """A text file of the study, None where there is none."""
        data = read_whole(self.fs, self.path(*parts), where=self._named(parts))
        return None if data is None else data.decode()

    def read_json(self, *parts: str) -> dict[str, Any] | None:
        """A JSON file of the study, None where there is none."""
        text = self.read_text(*parts)
        try:
            return None if text is None else json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"{'/'.join(parts)} is not JSON ({error}); delete it and run the stage again") from None

    def run_of(self, *parts: str) -> dict[str, Any] | None:
        """run.json of a dataset, None where it is missing or unfinished."""
        return self.read_json(*parts, "run.json")

    def require(self, *parts: str) -> dict[str, Any]:
        """run.json of a dataset that must be there and finished; every stage asks for the manifest's."""
        if parts == ("manifest",):
            self.refuse_unfinished_removal()
        # the first thing that a stage asks, and asked impatiently: the store's address may be wrong
        run = self.run_of(*parts) if self.exists(*parts, "run.json") else None
        if run is not None:
            return run
        command = MADE_BY[parts[0]]
        name = unquote("/".join(parts))
        if not self.exists():
            raise ContractError(
                f"no study at {self.address}; expected a directory made by: cbmir manifest ... --study DIR"
            )
        if not self.exists(*parts):
            raise ContractError(f"{name} is not in the study {self.address}; make it with: {command}")
        raise ContractError(f"{name} is unfinished (it has no run.json); finish it with: {command}")

    def refuse_unfinished_removal(self) -> None:
        """ContractError where a removal has been killed: what is left of its images must not get into new results."""
        if not self.removing and self.exists(JOURNAL):
            raise ContractError(
                f"a removal of images from the study {self.address} is unfinished; finish it with: cbmir remove --study {self.address}"
            )

    def write_bytes(self, data: bytes | pa.Buffer, *parts: str, mode: int = 0o666) -> None:
        """Write one file whole or not at all; `mode`: permissions of a local file, less the process's umask."""
        write_whole(self.fs, self.path(*parts), data, where=self._named(parts), mode=mode)

    def _named(self, parts: tuple[str, ...]) -> str:
        """A file of the study, for people."""
        return self.path(*parts) if self.is_local else "/".join([named(self.address), *parts])

    def write_table(self, table: pa.Table, *parts: str, compression: str = "zstd", **layout: Any) -> None:
        """One Parquet file, whole or not at all; `layout` as pyarrow's write_table has it."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=compression, **layout)
        self.write_bytes(sink.getvalue(), *parts)

    def write_json(self, value: dict[str, Any], *parts: str) -> None:
        self.write_bytes(json.dumps(value, indent=1, sort_keys=True, default=str).encode() + b"\n", *parts)

    def delete(self, *parts: str) -> None:
        """Remove a dataset or file; nothing happens where there is none."""
        info = self.fs.get_file_info(self.path(*parts))
        if info.type == pafs.FileType.Directory:
            self.fs.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.fs.delete_file(info.path)

    def dataset(self, *parts: str) -> pads.Dataset:
        """The Parquet files of one dataset, for streaming reads."""
        return pads.dataset(self.files(*parts), filesystem=self.fs, format="parquet")

    @contextlib.contextmanager
    def publishing(self, *parts: str) -> Iterator[Publication]:
        """Write a dataset as a whole: the target changes only when the block ends without an error.

        Local: a staging directory on the same filesystem, renamed. Object store: files go to the target, whose
        run.json is removed first and written last.
        """
        publication = Publication(self, parts)
        publication.begin()
        try:
            yield publication
        except BaseException:
            publication.abandon()
            raise
        publication.finish()


class Publication:
    """A dataset being written; set `run` before the block ends."""

    def __init__(self, study: Study, target: tuple[str, ...]) -> None:
        self.study = study
        self.target = target
        self.run: dict[str, Any] = {}
        slug = fingerprint(*target)
        self._slug = slug
        self.parts = (".staging", f"{slug}-{uuid.uuid4().hex[:8]}") if study.is_local else target
        self._written: list[str] = []

    def begin(self) -> None:
        self._sweep()
        if not self.study.is_local:
            self.study.delete(*self.target, "run.json")
            self.study.delete(*self.target)
        self._make_directory()

    def _make_directory(self) -> None:
        """Where the files go; another writer that has just finished may take `.staging` away while it is being made."""
        for left in reversed(range(20)):
            try:
                self.study.fs.create_dir(self.study.path(*self.parts), recursive=True)
                return
            except FileNotFoundError:
                if not left:
                    raise

    def _sweep(self) -> None:
        """Remove what a killed writer of the same dataset left; one killed between its two renames has its old dataset put back."""
        if self.study.is_local and not self.study.exists(*self.target):
            for name in self.study.names(".staging"):
                if name.startswith(f"{self._slug}-old-"):
                    os.replace(self.study.path(".staging", name), self.study.path(*self.target))
                    break
        for name in self.study.names(".staging"):
            if name.startswith(self._slug):
                self.study.delete(".staging", name)

    def write_table(self, table: pa.Table, name: str, dataset: str, contract: pa.Schema | None = None) -> None:
        """One file of `dataset`, whose contract is given where it depends on the encoder."""
        check(table, dataset, contract)
        self.study.write_table(table, *self.parts, name)
        self._written.append(name)

    def write_json(self, value: dict[str, Any], name: str) -> None:
        self.study.write_json(value, *self.parts, name)

    def local_path(self, name: str) -> str:
        """A local path for a library that can only write files; uploaded by `upload` on object stores."""
        if self.study.is_local:
            return self.study.path(*self.parts, name)
        import tempfile

        return str(Path(tempfile.mkdtemp(prefix="cbmir-")) / name)

    def upload(self, local: str, name: str) -> None:
        if not self.study.is_local:
            pafs.copy_files(local, self.study.path(*self.parts, name), destination_filesystem=self.study.fs)
            shutil.rmtree(os.path.dirname(local), ignore_errors=True)

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self.study.delete(*self.parts)

    def finish(self) -> None:
        lost = [name for name in self._written if not self.study.exists(*self.parts, name)]
        if lost:
            raise ContractError(
                f"{'/'.join(self.target)}: another run has begun the same dataset and removed this one's files; run one at a time"
            )
        self.study.write_json(self.run, *self.parts, "run.json")
        if not self.study.is_local:
            return
        target = Path(self.study.path(*self.target))
        target.parent.mkdir(parents=True, exist_ok=True)
        old = Path(self.study.path(".staging", f"{self._slug}-old-{uuid.uuid4().hex[:8]}"))
        if target.exists():
            os.replace(target, old)
        os.replace(self.study.path(*self.parts), target)
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # other writers may still stage
            os.rmdir(self.study.path(".staging"))


def changed_parameter(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Two run.json -> 'k 4 there, 5 now' for the first parameter that differs, None where all agree."""
    for key, value in now["parameters"].items():
        if before["parameters"].get(key) != value:
            return f"{key} {before['parameters'].get(key)} there, {value} now"
    return None


def run_record(
    stage: str, *, parameters: dict[str, Any], inputs: dict[str, str], rows: int, **more: Any
) -> dict[str, Any]:
    """The content of run.json: what was run, on what, with which versions; `fingerprint` identifies the result."""
    return {
        "stage": stage,
        "parameters": parameters,
        "inputs": inputs,
        "fingerprint": fingerprint(stage, parameters, inputs),
        "rows": rows,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "git": git_revision(),
        **more,
    }


@cache
def versions() -> dict[str, str | None]:
    """Versions of Python, cbmir and the engines, without importing them."""
    found: dict[str, str | None] = {"python": ".".join(map(str, os.sys.version_info[:3]))}
    for package in ("cbmir", *_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


@cache
def git_revision() -> str | None:
    """Revision of the checkout that cbmir runs from, None for an installed package."""
    source = Path(__file__).resolve().parent.parent
    if not (source / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(source), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
