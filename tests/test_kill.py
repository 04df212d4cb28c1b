"""SIGKILL of the driver and of a worker at random moments; the same command again loses nothing and doubles nothing."""

import random
import time
from functools import partial
from pathlib import Path

import pytest

from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.store import Study
from tests.faults import running, said_by, whole
from tests.processes import alive, cbmir, children, kill, outcome, start, wait_for, written

COPIES = 10
ROWS = 200 * COPIES
TOTAL = (ROWS, 199 * COPIES, COPIES, ROWS)


@pytest.fixture
def study(phantoms, tmp_path) -> Path:
    """2,000 rows over the 200 drawn files: long enough to be killed in the middle."""
    header, *rows = (phantoms / "phantoms.csv").read_text().splitlines()
    table = phantoms / f"copies-{tmp_path.name}.csv"
    lines = [f"{copy}/{row}" for copy in range(COPIES) for row in rows]
    table.write_text("\n".join([header, *lines]) + "\n")
    write_manifest(Study(str(tmp_path / "study")), "csv", [str(table)], Options())
    return tmp_path / "study"


def command(study: Path) -> list[str]:
    return ["embed", "--study", str(study), "--encoder", "pixels32", "--batch-size", "16"]


@pytest.fixture
def below():
    """Processes that were below a killed driver; those that are left at the end are ended here, by their numbers."""
    found: dict[int, str] = {}
    yield found
    for pid in filter(alive, found):
        kill(pid)


def workers(processes: dict[int, str]) -> list[int]:
    """Ray's workers among them; its agents end by themselves a minute or two after their node, and write nothing."""
    return [pid for pid, line in processes.items() if line.startswith("ray::") and "Agent" not in line]


@pytest.mark.slow
def test_kill_of_the_driver_at_three_random_moments(study, below):
    """Once at any moment of the run, also before its first file; twice while files are being written."""
    moments = random.Random(4)
    for first_file in (False, True, True):
        before = written(study)
        process = start(*command(study))
        if first_file:
            wait_for(lambda before=before: written(study) > before, seconds=120, process=process)
        time.sleep(moments.uniform(0, 1.5 if first_file else 12))
        running = children(process.pid)
        below |= running
        kill(process.pid)
        process.wait()
        process.stdout.close()
        assert wait_for(lambda running=running: not any(map(alive, workers(running))), seconds=60), (
            "workers outlive their driver"
        )
    done = cbmir(*command(study))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("pixels32: 1,990 embedded, 10 failed: see failures")
    assert outcome(study, "pixels32") == TOTAL
    assert whole(study, "pixels32") == TOTAL[1:3]


@pytest.mark.slow
def test_kill_of_workers_while_they_encode_and_decode(study):
    """Ray restarts what was killed; the run itself ends well, without a second start."""
    with running(*command(study)) as process:
        assert wait_for(lambda: written(study) > 0, seconds=120, process=process)
        for kind in ("EncodeBlocks", "decode_block"):
            assert wait_for(partial(kill_one, process, kind), seconds=60, process=process), f"no {kind} to be killed"
        output = said_by(process)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert whole(study, "pixels32") == TOTAL[1:3]
    again = cbmir(*command(study))
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == output.strip().splitlines()[-1]


def kill_one(process, kind: str) -> bool:
    """Kill a worker whose command line names `kind`, if there is one at this moment."""
    found = [pid for pid, line in children(process.pid).items() if line.startswith("ray::") and kind in line]
    if found:
        kill(found[0])
    return bool(found)
