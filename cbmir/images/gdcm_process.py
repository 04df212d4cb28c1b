"""GDCM in a process of its own: a broken file may end or hang it, and nothing else.

The child is started when it is first needed and serves its process until then; it gets one frame as DICOM bytes and gives a .npy back,
never a pickle. Run as a module, this file is the child.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

PATIENCE = 8.0  # seconds for one frame
_START = 30.0  # and to import what it needs
_MEMORY = 6 << 30  # address space of the child
_child: subprocess.Popen | None = None
_lock = threading.Lock()  # one question at a time


def decode(data: bytes) -> np.ndarray | None:
    """A DICOM of one frame -> its stored values, None where GDCM gives none: error, crash or no answer in PATIENCE seconds."""
    with _lock:
        child = _running()
        if child is None:
            return None
        deadline = time.monotonic() + PATIENCE
        try:
            _ask(child.stdin, struct.pack("<q", len(data)) + data, deadline)
            size = struct.unpack("<q", _answer(child.stdout, 8, deadline))[0]
            if size == 0:
                return None
            return np.load(io.BytesIO(_answer(child.stdout, size, deadline)), allow_pickle=False)
        except (OSError, EOFError, TimeoutError, ValueError):
            _stop()
            return None
        except BaseException:  # interrupted: the answer to this question must not be taken for the next one's
            _stop()
            raise


def _running() -> subprocess.Popen | None:
    """The child, started anew if it has ended; None where it does not start."""
    global _child
    if _child is not None and _child.poll() is None:
        return _child
    _stop()
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    _child = subprocess.Popen(
        [sys.executable, "-m", "cbmir.images.gdcm_process"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    try:
        os.set_blocking(_child.stdin.fileno(), False)
        if _answer(_child.stdout, 5, time.monotonic() + _START) == b"ready":
            return _child
    except (OSError, EOFError, TimeoutError):
        pass
    _stop()
    return None


def _stop() -> None:
    global _child
    if _child is None:
        return
    _child.kill()
    _child.wait()
    for stream in (_child.stdin, _child.stdout):
        with contextlib.suppress(OSError):
            stream.close()
    _child = None


atexit.register(_stop)


def _ask(stream: BinaryIO, question: bytes, deadline: float) -> None:
    """Write it all, TimeoutError where the child does not take it."""
    rest = memoryview(question)
    while rest:
        _wait(stream, select.POLLOUT, deadline)
        rest = rest[os.write(stream.fileno(), rest[: 1 << 16]) :]


def _answer(stream: BinaryIO, count: int, deadline: float) -> bytes:
    """`count` bytes from the child, TimeoutError behind the deadline, EOFError where it has ended."""
    parts = bytearray()
    while len(parts) < count:
        _wait(stream, select.POLLIN, deadline)
        found = os.read(stream.fileno(), min(count - len(parts), 1 << 20))
        if not found:
            raise EOFError
        parts += found
    return bytes(parts)


def _wait(stream: BinaryIO, event: int, deadline: float) -> None:
    ready = select.poll()
    ready.register(stream, event)
    if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child's loop, until its parent has gone."""
    import resource
    import warnings

    import pydicom
    from pydicom.pixels import pixel_array

    warnings.simplefilter("ignore")
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, hard))
    answers.write(b"ready")
    answers.flush()
    while len(head := requests.read(8)) == 8:
        data = requests.read(struct.unpack("<q", head)[0])
        buffer = io.BytesIO()
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            np.save(buffer, pixel_array(dataset, index=0, decoding_plugin="gdcm"), allow_pickle=False)
        except Exception:  # whatever it was: there are no pixels
            buffer = io.BytesIO()
        answers.write(struct.pack("<q", buffer.getbuffer().nbytes))
        answers.write(buffer.getbuffer())
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
