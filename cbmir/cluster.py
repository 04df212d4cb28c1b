"""Ray, started or attached to in one place."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from cbmir.errors import UserError
from cbmir.patience import patiently


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Ray for the length of the block; a UserError of a task or an actor leaves it as itself.

    A session that the process already has is used and left running. Otherwise `address`, else RAY_ADDRESS (set inside
    a submitted job), else a cluster of its own on this machine, which is stopped at the end.
    """
    with _started(address):
        import ray

        try:
            yield
        except ray.exceptions.RayError as error:
            failed = error.args[0] if isinstance(error, ray.exceptions.ActorDiedError) and error.args else error
            cause = getattr(failed, "cause", None)
            if not isinstance(cause, UserError):
                raise
            first, _, _ = str(cause).partition("\n")  # Ray adds lines on how to try again
            raise type(cause)(first) from error


@contextlib.contextmanager
def _started(address: str | None) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        _quiet_data()
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if where == "local" else {}
    try:
        with _silent_backend():
            ray.init(address=where, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(
            f"no Ray cluster at {where}: {first}; expected a running one, or leave --ray-address away"
        ) from error
    _quiet_data()
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _silent_backend() -> Iterator[None]:
    """Ray's C++ side writes warnings to the terminal of whoever starts it, and a line about the level that silences them.

    Its level is set for this process alone, and file descriptor 2 is closed to it while it announces that; errors
    reach Python as exceptions either way.
    """
    before = os.environ.get("RAY_BACKEND_LOG_LEVEL")
    if before is not None:  # somebody is looking for something
        yield
        return
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        del os.environ["RAY_BACKEND_LOG_LEVEL"]


def _quiet_data() -> None:
    """Ray Data without its own bars and chatter: cbmir prints one progress line of its own, and one line of what went wrong."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # Ray's wrapper forgets what it wraps
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):  # the terminal; Ray's own file still has every traceback
            handler.setLevel(logging.CRITICAL)


def resources() -> dict[str, float]:
    """Resources of the whole cluster: {'CPU': 2.0, 'GPU': 0.0, 'memory': bytes}."""
    import ray

    found = ray.cluster_resources()
    return {name: float(found.get(name, 0.0)) for name in ("CPU", "GPU", "memory")}


def file_source(files: list[str], fs):
    """A Ray Datasource over Parquet files on `fs`, one read task a file; what is mapped over it then runs in the same task."""
    from functools import partial

    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class FileSource(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context=None):
            metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
            return [ReadTask(partial(_read_file, file, fs), metadata) for file in files]

    return FileSource()


def _read_file(file: str, fs) -> list:
    import pyarrow.parquet as pq

    return [patiently(lambda: pq.read_table(file, filesystem=fs), file)]


def map_files(files: list[str], fs, function, *, cpus: float, **options) -> Iterator:
    """`function`(table, **options) of each Parquet file, in a task of its own -> the tables that they return, as they come."""
    import ray

    data = ray.data.read_datasource(file_source(files, fs), override_num_blocks=len(files), num_cpus=cpus)
    data = data.map_batches(function, fn_kwargs=options, batch_size=None, batch_format="pyarrow", num_cpus=cpus)
    yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def spilled_bytes() -> int:
    """Bytes that the object stores of the cluster have written to disk so far; 0 where that cannot be asked."""
    import ray

    try:
        from ray._private.internal_api import get_memory_info_reply, get_state_from_address

        # by address: there may be other clusters on this machine
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        return int(get_memory_info_reply(state, timeout_seconds=5).store_stats.spilled_bytes_total)
    except Exception:  # Ray has no public call for it: a version without this one must not end a run
        return 0


def timeline(file: str) -> None:
    """Write what Ray's workers did when, as a Chrome trace."""
    import ray

    ray.timeline(filename=file)
