"""Decoders warn of every odd file, and pydicom's warnings and log lines quote the header: neither may leave the process that reads it."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()  # around what follows
_inside = 0  # threads that want quiet
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """No warning, and no line of pydicom's in the logs of the program around it, as long as any thread is in here.

    Python's own `catch_warnings` is one thread's: of two that overlap, the first to leave would let the other one's warnings out.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _silence()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


def _silence() -> None:
    _undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    logger = logging.getLogger("pydicom")
    _undo.callback(_restore, logger, logger.propagate, logger.disabled)
    logger.propagate, logger.disabled = False, True


def _restore(logger: logging.Logger, propagate: bool, disabled: bool) -> None:
    logger.propagate, logger.disabled = propagate, disabled
