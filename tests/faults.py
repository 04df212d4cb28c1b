"""What the tests of faults share: studies, faults made for real, and what must hold after each of them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cbmir.store import Study, path_name
from tests.processes import alive, children, kill, outcome, start, wait_for
from tests.studies import make_study

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing a connection resets it
HOOKS = Path(__file__).with_name("hooks")


def images_of(phantoms: Path) -> dict[str, Path]:
    """image_id -> file of the drawn images."""
    with open(phantoms / "phantoms.csv") as table:
        return {row["image_id"]: phantoms / row["path"] for row in csv.DictReader(table)}


def study_of(root: Path | str, images: dict[str, Path | str], *, copies: int = 1) -> Study:
    """A study with a manifest of `images` and nothing else; copies: how often each stands in it."""
    rows = [{"image_id": f"{c}/{name}", "uri": str(uri)} for c in range(copies) for name, uri in images.items()]
    return make_study(root, rows)


def hooked(**variables: object) -> dict[str, str]:
    """The environment of a command whose processes import tests/hooks/sitecustomize.py."""
    path = os.pathsep.join([str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path} | {name: str(value) for name, value in variables.items()}


def whole(study: Path, encoder: str) -> tuple[int, int]:
    """Assert what must hold after a fault and a restart -> (embeddings, failures)."""
    directory = f"encoder={path_name(encoder)}"
    rows = readable(study, encoder)
    total, embedded, failed, distinct = outcome(study, directory.removeprefix("encoder="))
    assert embedded + failed == rows == distinct == total
    left = [*study.glob("**/*.tmp-*"), *study.glob(".staging/*")]
    assert not left, f"debris: {left}"
    run = json.loads((study / "embeddings" / directory / "run.json").read_text())
    assert (run["rows"], run["failed"]) == (embedded, failed)
    return embedded, failed


def readable(study: Path, encoder: str) -> int:
    """Rows of the files of embeddings and failures, each read to its end by pyarrow alone."""
    files = list(study.glob(f"*/encoder={path_name(encoder)}/*.parquet"))
    return sum(pq.ParquetFile(file).read().num_rows for file in files)


def failures(study: Path, encoder: str) -> list[dict]:
    files = sorted(study.glob(f"failures/encoder={path_name(encoder)}/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def vectors(study: Path, encoder: str) -> dict[int, np.ndarray]:
    """image_key -> (dim,) of what has been written."""
    files = sorted(study.glob(f"embeddings/encoder={path_name(encoder)}/*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    return {row["image_key"]: np.array(row["embedding"]) for table in tables for row in table.to_pylist()}


def one_line(said: str) -> str:
    """Assert that a command ended with one line about itself and no traceback -> that line."""
    assert "Traceback" not in said, said
    lines = [line for line in said.splitlines() if re.match(r"cbmir \w+: ", line)]
    assert len(lines) == 1, said
    return lines[0]


def download(fs: pafs.FileSystem, source: str, target: Path) -> Path:
    """A study on an object store -> the same in a directory."""
    pafs.copy_files(source, str(target), source_filesystem=fs)
    return target


@contextlib.contextmanager
def running(*arguments: str, **options) -> Iterator[subprocess.Popen]:
    """A command that has been started; what is left of it where the test fails is killed."""
    process = start(*arguments, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            below = children(process.pid)
            kill(process.pid)
            end(below, seconds=30)
        process.stdout.close()
        process.wait()


def said_by(process: subprocess.Popen, *, seconds: float = 300) -> str:
    """Wait for a command's end -> everything that it said."""
    return process.communicate(timeout=seconds)[0]


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[str, int]]:
    """A Ray cluster of two nodes on this machine -> (its address, process id of the second node's raylet)."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 256 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node | {"num_cpus": 1})
        cluster.wait_for_nodes()
        yield cluster.address, second.all_processes["raylet"][0].process.pid
    finally:
        cluster.shutdown()


def end(processes: dict[int, str], *, seconds: float = 60) -> dict[int, str]:
    """Wait for processes to end -> those that had to be killed in the end."""
    wait_for(lambda: not any(map(alive, processes)), seconds=seconds)
    left = {pid: line for pid, line in processes.items() if alive(pid)}
    for pid in left:
        kill(pid)
    return left


def peak_memory(process: subprocess.Popen, of: str) -> dict[str, int]:
    """Wait for a command to end -> most megabytes (1 << 20) that each process below it whose command line begins with `of` has held."""
    peaks: dict[str, int] = {}
    while process.poll() is None:
        for pid, line in children(process.pid).items():
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                if found and line.startswith(of):
                    peaks[f"{pid} {line}"] = int(found[1]) >> 10
        time.sleep(0.2)
    return peaks


class SmallDisk:
    """A filesystem of few bytes, seen by those processes alone that are started with `inside`.

    It is mounted in a namespace of its own, which ends with the process that holds it, so nothing stays mounted.
    """

    def __init__(self, directory: Path, holder: subprocess.Popen) -> None:
        self.directory, self.holder = directory, holder
        self.inside = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", str(holder.pid)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """One command of cbmir that sees the disk."""
        command = [*self.inside, sys.executable, "-m", "cbmir", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)

    @property
    def seen_from_outside(self) -> Path:
        return Path(f"/proc/{self.holder.pid}/root{self.directory}")

    def grow(self, size: str) -> None:
        subprocess.run([*self.inside, "mount", "-o", f"remount,size={size}", str(self.directory)], check=True)


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[SmallDisk | str]:
    """A SmallDisk at `directory`, or why this machine gives none."""
    directory.mkdir()
    script = f"mount -t tmpfs -o size={size} none '{directory}' && echo mounted && exec cat"
    command = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", script]
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        yield str(error)
        return
    with holder:  # its end closes the pipes and waits
        if holder.stdout.readline() == "mounted\n":
            yield SmallDisk(directory, holder)
        else:
            yield holder.stderr.read().strip()
        holder.stdin.close()


class Proxy:
    """Stands before an HTTP server; at will it answers each request with 500, or resets each connection.

    broken: the end of an address that is answered with 500 at all times.
    """

    def __init__(self, server: str, *, broken: str | None = None) -> None:
        host, port = server.split(":")
        self.server, self.broken = (host, int(port)), broken
        self.fault: str | None = None  # '500' or 'reset'
        self.refused = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, fault: str | None) -> None:
        """From now on; what is on its way is cut off."""
        self.fault = fault
        for one in list(self._open) if fault else ():
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.fail("reset")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b"" if self.fault == "reset" else client.recv(1 << 16)
            target = head.split(b" ", 2)[1].split(b"?")[0].decode() if head.count(b" ") > 1 else ""
            if self.fault == "reset":
                self.refused += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            elif self.fault == "500" or (self.broken and target.endswith(self.broken)):
                self.refused += 1
                client.sendall(_internal_error(head))
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):  # the request's body: unread, it would reset the connection
                    pass
            else:
                self._forward(client, head)

    def _forward(self, client: socket.socket, head: bytes) -> None:
        with socket.create_connection(self.server) as server:
            self._open |= {client, server}
            try:
                server.sendall(head)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()
            finally:
                self._open -= {client, server}


def _internal_error(request: bytes) -> bytes:
    said = b"" if request.startswith(b"HEAD") else b"<Error><Code>InternalError</Code></Error>"
    head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(said) + said


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
