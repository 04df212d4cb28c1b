"""Headers of many DICOM files, in order: by worker processes where there are many on a disk, by threads on an object store.

Parsing holds Python's lock, so threads do not help on a disk; on an object store they wait for answers. The workers are this
file run as a module, not `multiprocessing`, which would run the caller's own script again. Lines of JSON go in and out, never a pickle.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from cbmir.datasets.each import chunks, counted, each, opened, threaded
from cbmir.images.dicom_header import Header, NoDicom, read_header
from cbmir.images.errors import ImageError

FEW = 2_000  # files that are read sooner than workers start
_MOST_WORKERS = 32
_PARSING = Lock()  # threads wait for objects at the same time, and parse one after the other
_HEAD = 1 << 18  # bytes asked of an object store at first: most headers are smaller


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file gives no image: a kind of remark, and words that quote nothing of the header."""

    kind: str
    detail: str


def examine_all(addresses: list[str]) -> Iterator[Header | Problem]:
    """Each file's header, or what is wrong with it, in order; says how far it is on standard error."""
    workers = min(os.cpu_count() or 1, len(addresses) // (FEW // 2), _MOST_WORKERS)
    if len(addresses) <= FEW or workers < 2 or any("://" in address for address in addresses):
        yield from each(examine, addresses, title="headers")
        return
    with ExitStack() as stack:
        results = _by_workers(chunks(addresses), workers, stack)
        yield from counted(results, len(addresses), title="headers")


def examine(address: str) -> Header | Problem:
    """One file -> its header, or what is wrong with it."""
    try:
        header, size = _header(address)
    except NoDicom:
        return Problem("other_file", "")
    except ImageError as error:
        return Problem("unreadable_file", str(error))
    except OSError as error:
        return Problem("unreadable_file", f"{type(error).__name__}: {error.strerror or 'cannot be read'}")
    if not header.has_pixels:
        return _without_pixels(header)
    if header.frames * 8 > size:  # even an empty compressed frame takes 8 bytes
        return Problem("unreadable_file", f"the header promises {header.frames:,} frames in {size:,} bytes")
    return header


def _header(address: str) -> tuple[Header, int]:
    """(header, bytes of the file); an object is asked for its head first, as a whole only where that does not do."""
    if "://" not in address:
        return read_header(address), os.path.getsize(address)
    fs, path = opened(address)
    with closing(fs.open_input_file(path)) as file:
        size = file.size()
        try:
            header = _parsed(file.read(_HEAD))
            if header.has_pixels or size <= _HEAD:
                return header, size
        except ImageError as error:
            if isinstance(error, NoDicom) or size <= _HEAD:
                raise
        file.seek(0)
        return _parsed(file.read()), size


def _parsed(data: bytes) -> Header:
    with _PARSING:
        return read_header(data)


def _without_pixels(header: Header) -> Problem:
    if header.rows and header.columns:
        return Problem("unreadable_file", f"the file ends before its {header.rows} x {header.columns} pixels")
    kind = header.modality if re.fullmatch("[A-Z]{2,16}", header.modality or "") else "of unknown kind"
    return Problem("no_pixels", f"a DICOM file without an image ({kind})")


def _examined(chunk: list[str]) -> list[Header | Problem]:
    return [examine(address) for address in chunk]


def _by_workers(parts: list[list[str]], count: int, stack: ExitStack) -> Iterator[list[Header | Problem]]:
    free: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(count):
        free.put(stack.enter_context(closing(Worker())))

    def work(chunk: list[str]) -> list[Header | Problem]:
        worker = free.get()
        try:
            return worker.ask(chunk)
        finally:
            free.put(worker)

    return threaded(work, parts, count, stack)


class Worker:
    """A process that examines files."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        command = [sys.executable, "-m", "cbmir.datasets.dicom_files"]
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, text=True
        )

    def ask(self, chunk: list[str]) -> list[Header | Problem]:
        """The same as `_examined`, elsewhere; here, should the process have ended."""
        try:
            self.child.stdin.write(json.dumps(chunk) + "\n")
            self.child.stdin.flush()
            answer = json.loads(self.child.stdout.readline())
        except (OSError, ValueError):
            return _examined(chunk)
        kinds: dict[str, Callable] = {"Header": Header, "Problem": Problem}
        return [kinds[kind](*(tuple(v) if isinstance(v, list) else v for v in values)) for kind, values in answer]

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()


def _serve() -> None:
    """The worker's loop, until its parent has gone."""
    for line in sys.stdin:
        answers = [(type(found).__name__, astuple(found)) for found in _examined(json.loads(line))]
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    _serve()
