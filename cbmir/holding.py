"""One writer at a time: who builds a dataset holds it, and another waits and says for whom.

On a local filesystem by flock, which the system releases when a process dies. An object store has no locks: there an object says who holds and is written
again every HEARTBEAT seconds, so that one that is older than STALE is a dead process's. Two that come within one request of each other are not told
apart there; Publication notices lost files at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from cbmir.store import Study, fingerprint

HEARTBEAT, STALE, ASK_AGAIN = 30.0, 120.0, 1.0  # seconds
Say = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def held(study: Study, *parts: str, say: Say = _to_stderr) -> Iterator[bool]:
    """Hold the dataset `parts` for the length of the block; gives whether another process had to be waited for."""
    holding = _by_flock if study.is_local else _by_object
    with holding(study, parts, say) as waited:
        yield waited


@contextlib.contextmanager
def _by_flock(study: Study, parts: tuple[str, ...], say: Say) -> Iterator[bool]:
    import fcntl

    directory = study.path(".locks")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, fingerprint(*parts))
    waited = False
    while True:
        file = open(path, "a+")  # noqa: SIM115  held until the block ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                file.seek(0)
                say(_who(parts, file.read()))
            waited = True
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
                break
        file.close()  # whoever held it has removed this file; another may have made a new one
    file.truncate(0)
    file.write(json.dumps(_me()))
    file.flush()
    try:
        yield waited
    finally:
        os.unlink(path)
        file.close()


@contextlib.contextmanager
def _by_object(study: Study, parts: tuple[str, ...], say: Say) -> Iterator[bool]:
    place = (".locks", fingerprint(*parts))
    waited = False
    while (other := study.read_json(*place)) and time.time() - other["alive"] < STALE:
        if not waited:
            say(_who(parts, json.dumps(other)))
        waited = True
        time.sleep(ASK_AGAIN)
    me = _me()
    study.write_json(me | {"alive": time.time()}, *place)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            study.write_json(me | {"alive": time.time()}, *place)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield waited
    finally:
        over.set()
        thread.join()
        study.delete(*place)


def _me() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%H:%M:%S UTC", time.gmtime()),
    }


def _who(parts: tuple[str, ...], text: str) -> str:
    try:
        other = json.loads(text)
        holder = f"process {other['process']} on {other['host']} since {other['since']}"
    except (ValueError, KeyError):
        holder = "another process"
    return f"{'/'.join(parts)} is held by {holder}; waiting until it has finished"
