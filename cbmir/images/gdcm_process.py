"""GDCM in a process of its own: a broken file may end or hang it, and nothing else.

The child is started when it is first needed and serves its process until then; it gets DICOM bytes and gives a .npy back, never a pickle.
Run as a module, this file is the child.
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
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

PATIENCE = 8.0  # seconds for one frame
_START = 30.0  # and to import what it needs
_MEMORY = 6 << 30  # address space of the child
_child: subprocess.Popen | None = None


def decode(data: bytes, frame: int) -> np.ndarray | None:
    """A DICOM file's frame -> its stored values, None where GDCM gives none: error, crash or no answer in PATIENCE seconds."""
    child = _running()
    if child is None:
        return None
    try:
        child.stdin.write(struct.pack("<qi", len(data), frame))
        child.stdin.write(data)
        child.stdin.flush()
        size = struct.unpack("<q", _answer(child.stdout, 8, PATIENCE))[0]
        if size == 0:
            return None
        return np.load(io.BytesIO(_answer(child.stdout, size, PATIENCE)), allow_pickle=False)
    except (OSError, EOFError, TimeoutError, ValueError):
        _stop()
        return None


def _running() -> subprocess.Popen | None:
    """The child, started anew if it has ended; None where it does not start."""
    global _child
    if _child is not None and _child.poll() is None:
        return _child
    _stop()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "cbmir.images.gdcm_process"]
    _child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        if _answer(_child.stdout, 5, _START) == b"ready":
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


def _answer(stream: BinaryIO, count: int, patience: float) -> bytes:
    """`count` bytes from the child, TimeoutError after `patience` seconds, EOFError where it has ended."""
    deadline = time.monotonic() + patience
    parts = bytearray()
    while len(parts) < count:
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        found = os.read(stream.fileno(), min(count - len(parts), 1 << 20))
        if not found:
            raise EOFError
        parts += found
    return bytes(parts)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child's loop, until its parent has gone."""
    import resource
    import warnings

    import pydicom
    from pydicom.pixels import pixel_array

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(b"ready")
    answers.flush()
    while len(head := requests.read(12)) == 12:
        size, frame = struct.unpack("<qi", head)
        data = requests.read(size)
        buffer = io.BytesIO()
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            np.save(buffer, pixel_array(dataset, index=frame, decoding_plugin="gdcm"), allow_pickle=False)
        except Exception:  # whatever it was: there are no pixels
            buffer = io.BytesIO()
        answers.write(struct.pack("<q", buffer.getbuffer().nbytes))
        answers.write(buffer.getbuffer())
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
