"""SIGKILL of the driver and of a worker at random moments; the same command again loses nothing and doubles nothing."""

import random
import time
from pathlib import Path

import pytest

from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.store import Study
from tests.processes import cbmir, children, kill, outcome, start, wait_for, written

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


def all_gone(pids) -> bool:
    return not any(
        Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in pids
    )


@pytest.mark.slow
def test_kill_of_the_driver_at_three_random_moments(study):
    moments = random.Random(4)
    for _ in range(3):
        before = written(study)
        process = start(*command(study))
        if wait_for(lambda before=before: written(study) > before, seconds=120, process=process):
            time.sleep(moments.uniform(0, 1.0))
        below = children(process.pid)
        kill(process.pid)
        process.wait()
        process.stdout.close()
        assert wait_for(lambda below=below: all_gone(below), seconds=60), "Ray's processes outlive their driver"
        assert (
            not (study / "embeddings" / "encoder=pixels32" / "run.json").exists() or outcome(study, "pixels32") == TOTAL
        )
    done = cbmir(*command(study))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("pixels32: 1,990 embedded, 10 failed: see failures")
    assert outcome(study, "pixels32") == TOTAL
    assert not list(study.glob("**/*.tmp-*"))
    assert not list(study.glob(".staging/*"))


@pytest.mark.slow
def test_kill_of_workers_while_they_encode_and_decode(study):
    """Ray restarts what was killed; the run itself ends well, without a second start."""
    process = start(*command(study))
    assert wait_for(lambda: written(study) > 0, seconds=120, process=process)
    killed = []
    for kind in ("EncodeBlocks", "decode_block"):
        victims = [pid for pid, line in children(process.pid).items() if line.startswith("ray::") and kind in line]
        if victims:
            kill(victims[0])
            killed.append(kind)
    output, _ = process.communicate(timeout=300)
    assert killed, "no worker was there to be killed"
    assert process.returncode == 0, output
    assert outcome(study, "pixels32") == TOTAL
