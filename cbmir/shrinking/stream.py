"""Images that have not been packed yet, through Ray."""

from __future__ import annotations

import contextlib
from collections import Counter

from cbmir.cluster import map_files, resources
from cbmir.embedding.addresses import MOST_TASKS, Addresses, write_parts
from cbmir.errors import UserError
from cbmir.images.shrunk import Shrink
from cbmir.progress import Progress
from cbmir.select import to_pack
from cbmir.shrinking.shards import pack_block
from cbmir.store import Study

_LEAST_ROWS, _MOST_ROWS = 16, 256  # images of a task, and of a shard unless these are large
_TASKS_A_CORE = 4  # or more, so that cores end at about the same time


def todo(study: Study, attempt: str, rows: int) -> Addresses:
    """Write the addresses of the `rows` images that are not packed, in a file for each task."""
    cores = max(1, int(resources()["CPU"]))
    fair = min(max(_LEAST_ROWS, -(-rows // (_TASKS_A_CORE * cores))), _MOST_ROWS)
    return write_parts(study, staging(attempt), to_pack(study, rows=max(fair, -(-rows // MOST_TASKS))))


def staging(attempt: str) -> tuple[str, str]:
    """Where one attempt's addresses lie."""
    return ".staging", f"pack-{attempt}"


def sweep(study: Study) -> None:
    """Remove the addresses of killed runs."""
    for name in study.names(".staging"):
        if name.startswith("pack-"):
            study.delete(".staging", name)


def run(study: Study, addresses: Addresses, attempt: str, how: Shrink) -> Counter[str]:
    """Pack the images of the addresses -> rows, failed, and seconds of all tasks by what they were spent on.

    UserError where the study cannot be written to, or another run has taken over.
    """
    told: Counter[str] = Counter()
    where = study.root if study.is_local else study.address
    results = map_files(addresses.files, study.fs, pack_block, cpus=1, address=where, attempt=attempt, how=how)
    with Progress("pack", addresses.rows) as progress, contextlib.closing(results):
        for table in results:
            for row in table.to_pylist():
                if (stop := row.pop("stop")) is not None:
                    raise UserError(stop)
                told.update(row)
            progress.update(told["rows"], told["failed"])
    return told
