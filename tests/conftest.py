"""What several test files need."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout: public sample images and small weights, not part of the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: this test reads the public samples there")
    return folder


@pytest.fixture(scope="session")
def ray_session():
    """One local Ray for the tests that need it, stopped at the end."""
    from cbmir.cluster import ray_session as session

    with session("local"):
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """200 drawn images, one of them broken."""
    from cbmir.phantoms import draw_collection

    root = tmp_path_factory.mktemp("phantoms") / "images"
    draw_collection(root, images=200, seed=0)
    return root


@pytest.fixture
def phantom_study(phantoms: Path, tmp_path: Path):
    """A study with the manifest of the drawn images and nothing else."""
    from cbmir.datasets import Options
    from cbmir.datasets.manifest import write_manifest
    from cbmir.store import Study

    study = Study(str(tmp_path / "study"))
    write_manifest(study, "phantoms", [str(phantoms)], Options())
    return study
