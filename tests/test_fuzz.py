"""2,000 mutated files of all formats: none hangs, none ends its process; each ends as an image or as a failure.

More of them, with other seeds: FUZZ_FILES=20000 FUZZ_SEED=7 python -m pytest tests/test_fuzz.py
"""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

FILES = int(os.environ.get("FUZZ_FILES", 2_000))
SEED = int(os.environ.get("FUZZ_SEED", 0))
BOUND = 10.0  # seconds for one file
ROOT = Path(__file__).resolve().parents[1]


def decode(directory: Path, first: int, last: int) -> list[str]:
    """Decode files first..last in a process of their own -> 'image' or 'failure' of each; fails naming the file that hangs or kills."""
    command = [sys.executable, "-m", "tests.fuzz_worker", str(directory), str(SEED), str(first), str(last)]
    log = open(directory / f"{first}.log", "w+")  # noqa: SIM115 -- closed below
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    current, results = "start", []
    try:
        while (line := lines.get(timeout=60.0 if current == "start" else BOUND)) is not None:
            if line.startswith("begin "):
                current = line.strip()
            else:
                results.append(line.strip())
    except queue.Empty:
        pytest.fail(f"seed {SEED}, {current}: no answer in {BOUND:.0f} s")
    finally:
        process.kill()
        code = process.wait()
        process.stdout.close()
        log.seek(0)
        said = log.read()[-2000:]
        log.close()
    if len(results) < last - first:
        pytest.fail(f"seed {SEED}, {current}: the process ended with {code}: {said}")
    return results


def _pump(stream, lines: queue.Queue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


@pytest.mark.slow
def test_mutated_files_end_as_an_image_or_a_failure(tmp_path):
    half = FILES // 2
    results: dict[int, list[str] | BaseException] = {}

    def work(part: int, first: int, last: int) -> None:
        try:
            results[part] = decode(tmp_path, first, last)
        except BaseException as error:
            results[part] = error

    threads = [threading.Thread(target=work, args=(i, *span)) for i, span in enumerate(((0, half), (half, FILES)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    ends = results[0] + results[1]
    assert len(ends) == FILES
    assert set(ends) == {"image", "failure"}
    assert ends.count("failure") > FILES / 5  # the damage does something
    assert ends.count("image") > FILES / 20
