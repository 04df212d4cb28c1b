"""Running the command line as people do, and killing it at any moment; nothing is ever killed by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb


def cbmir(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run one command to its end."""
    options = {"capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run([sys.executable, "-m", "cbmir", *arguments], check=False, **options)


def start(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Start one command."""
    command = [sys.executable, "-m", "cbmir", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def children(pid: int) -> dict[int, str]:
    """Processes below `pid` -> their command lines, from /proc."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    below, found = {pid}, {}
    while True:
        more = {child for child, parent in parents.items() if parent in below} - below
        if not more:
            break
        below |= more
    for child in below - {pid}:
        try:
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def killed_when(condition, *arguments: str, after: float = 0.0, seconds: float = 120) -> None:
    """Start one command and kill it, and all that it has started, as soon as `condition()`, or so many seconds later."""
    process = start(*arguments)
    assert wait_for(condition, seconds=seconds, process=process), process.communicate()[0]
    time.sleep(after)
    below = children(process.pid)
    kill(process.pid)
    process.wait()
    process.stdout.close()
    for pid in filter(alive, below):  # Ray's workers, by their numbers
        kill(pid)


def wait_for(condition, *, seconds: float, process: subprocess.Popen | None = None) -> bool:
    """Poll until `condition()`; False where the time is over or the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.05)
    return False


def written(study: Path) -> int:
    """Files of embeddings and failures so far."""
    return len(list(study.glob("embeddings/*/*.parquet"))) + len(list(study.glob("failures/*/*.parquet")))


def outcome(study: Path, encoder: str) -> tuple[int, int, int, int]:
    """(manifest rows, embeddings, failures, distinct keys of both together), read by DuckDB alone."""
    parts = [f"SELECT image_key FROM '{study}/embeddings/encoder={encoder}/*.parquet'"]
    has_failures = list(study.glob(f"failures/encoder={encoder}/*.parquet"))
    if has_failures:
        parts.append(f"SELECT image_key FROM '{study}/failures/encoder={encoder}/*.parquet'")
    count = [duckdb.sql(f"SELECT count(*) FROM ({part})").fetchall()[0][0] for part in parts]
    distinct = duckdb.sql(f"SELECT count(DISTINCT image_key) FROM ({' UNION ALL '.join(parts)})").fetchall()[0][0]
    total = duckdb.sql(f"SELECT count(*) FROM '{study}/manifest/*.parquet'").fetchall()[0][0]
    return total, count[0], count[1] if has_failures else 0, distinct
