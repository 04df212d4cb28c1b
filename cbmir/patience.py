"""Storage that fails: what passes is waited out, and what does not is said in one line."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from cbmir.errors import UserError

Result = TypeVar("Result")
PATIENCE = 60.0  # seconds of asking again, beside the six (S3) or more (GCS) in which pyarrow itself does
_LONGEST_PAUSE = 8.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# pyarrow tells of S3 and GCS in words: a server that is away, in trouble, or asked too much
_PASSING = re.compile(
    r"NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT|HTTP status (?:429|5\d\d)"
    r"|Status\((?:UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)"
)


class StorageError(UserError):
    """Storage that is full, or that does not answer: nothing is wrong with what was asked, and the same command goes on later."""


def patiently(call: Callable[[], Result], where: str) -> Result:
    """call(), again and again with growing pauses while it fails for a reason that passes; StorageError after PATIENCE.

    What it does must bear being done twice. where: the file that the error names.
    """
    end, pause = time.monotonic() + PATIENCE, 0.25
    while True:
        try:
            return call()
        except OSError as error:
            if not passes(error) or time.monotonic() >= end:
                if (said := storage_line(error, where)) is None:
                    raise
                raise StorageError(said) from error
        time.sleep(pause * random.uniform(0.5, 1.0))  # many workers must not ask at the same moment
        pause = min(2 * pause, _LONGEST_PAUSE)


def named(address: str) -> str:
    """An address for people: without keys, secrets and options. A local path is its own name."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def passes(error: Exception) -> bool:
    """Whether the same request may well be answered in a minute."""
    return isinstance(error, OSError) and error.errno is None and _PASSING.search(str(error)) is not None


def storage_line(error: Exception, where: str) -> str | None:
    """What a person should know of storage that is full or silent, None for other errors."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"{where}: {error.strerror}; free some space and run the same command again"
    if passes(error):
        return f"{where} does not answer: {reason(error)}; run the same command again when it does"
    return None


def reason(error: OSError) -> str:
    """An error's first words: 'AWS Error SLOW_DOWN during GetObject operation'."""
    text = " ".join(str(error).split())
    return text[text.find("AWS Error") :].partition(": ")[0] if "AWS Error" in text else text[:200]
