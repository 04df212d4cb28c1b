"""`cbmir volumes run`: the whole way with encoders under names of their own, what is refused before anything is embedded, and a kill on the way."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cbmir.cli import main
from cbmir.report import leaderboard, leaderboard_text
from cbmir.store import Study
from cbmir.volumetric.place import volumes_of
from tests.processes import cbmir, killed_when

SPLITS = {"train": 14, "val": 2, "test": 6}
SIDE = 16
RENAMED = "small=timm:test_resnet~random0"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Volumes of two classes, of which one is brighter, in MedMNIST's layout."""
    path = tmp_path_factory.mktemp("npz") / "adrenalmnist3d_resaved.npz"
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in SPLITS.items():
        labels = rng.integers(0, 2, (count, 1)).astype(np.uint8)
        images = rng.integers(0, 100, (count, SIDE, SIDE, SIDE)) + 100 * labels[:, :, None, None]
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


def words(file: Path, study: Path, *flags: str) -> list[str]:
    """A command line; `flags` stand last."""
    return ["volumes", "run", "medmnist", str(file), "--study", str(study), "--encoder", "pixels32", *flags]


def searched(study: Path) -> dict[str, list[str]]:
    """Of each encoder among the volumes, what it is searched by."""
    volumes = volumes_of(Study(str(study)))
    return {name: sorted(volumes.names("neighbors", name)) for name in volumes.names("neighbors")}


def written(study: Path) -> dict[str, int]:
    """When each search was."""
    return {str(run): run.stat().st_mtime_ns for run in (study / "volumes" / "neighbors").rglob("run.json")}


FLAGS = ("--encoder", RENAMED, "--reduce", "mean,max", "--resamples", "100")
EVERYTHING = {
    name: by
    for encoder in ("pixels32", "small~random0")
    for name, by in {encoder: ["count", "late", "rank"], f"{encoder}~mean": ["exact"], f"{encoder}~max": ["exact"]}.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def made(file, ray_session, tmp_path_factory) -> Path:
    study = tmp_path_factory.mktemp("made") / "study"
    assert main(words(file, study, *FLAGS)) == 0
    return study


def test_every_way_to_search_is_gone_whatever_the_encoder_is_called(made, file, capsys):
    assert searched(made) == EVERYTHING
    volumes = volumes_of(Study(str(made)))
    before = written(made)
    assert len(volumes.run_of("metrics")["inputs"]) == 10
    assert "small~random0~mean" in Path(volumes.path("report", "report.html")).read_text()
    assert main(words(file, made, *FLAGS)) == 0
    assert "figures of 10 searches of volumes" in capsys.readouterr().out
    assert written(made) == before  # all was there


def test_doctor_says_what_a_study_of_volumes_has_and_that_it_is_old(made, file, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(made, study)
    assert main(["doctor", "--study", str(study / "volumes")]) == 0
    said = capsys.readouterr().out
    assert f"ok    manifest: 22 volumes of the slices in {study}" in said
    assert "ok    neighbors late of small~random0: 84 rows" in said
    assert "ok    neighbors exact of pixels32~max: 84 rows" in said
    assert not any(line.startswith("act ") for line in said.splitlines())
    assert main(["manifest", "medmnist", str(file), "--study", str(study), "--every", "2", "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--study", str(study / "volumes")]) == 0
    said = capsys.readouterr().out
    assert (
        f"act   the volumes are older than the manifest of their slices; make them again with: cbmir volumes --study {study}"
        in said
    )


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--gallery", "splat = 'train'"], "splat"),
        (["--queries", "split = 'none'"], "split = 'none'"),
        (["--exclude-same", "nonsense"], "nonsense"),
        (["--reduce", "median"], "median"),
        (["--reduce", "max"], "--candidates all"),
        (["--by", "magic"], "magic"),
    ],
)
def test_what_a_search_would_refuse_is_refused_before_anything_is_embedded(file, tmp_path, capsys, flags, said):
    assert main(words(file, tmp_path / "study", *flags)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "study" / "embeddings").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on(made, file, tmp_path):
    """SIGKILL when the volumes' vectors are there: the same command ends with what a run without a kill has."""
    study, command = tmp_path / "study", words(file, tmp_path / "study", *FLAGS)
    killed_when((study / "volumes" / "embeddings" / "encoder=pixels32~mean").exists, *command)
    assert not (study / "volumes" / "metrics").exists()
    done = cbmir(*command)
    assert done.returncode == 0, done.stderr
    assert searched(study) == EVERYTHING
    expected, found = (leaderboard_text(leaderboard(volumes_of(Study(str(root))))) for root in (made, study))
    assert found == expected
