"""What several test files need."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.fs as pafs
import pytest

if TYPE_CHECKING:
    from cbmir.store import Study

# Threads of torch that wait in a loop hold the cores of those that work: with two test files at a time, small products took seven times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The S3 server of the tests takes any keys; they are set before a Ray starts, whose workers inherit them.
os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of an S3 server on loopback."""

    name: str
    options: str  # what stands behind '?' in every address
    fs: pafs.FileSystem

    def address(self, path: str = "") -> str:
        """A path in the bucket, percent-encoded where it has to be -> its address."""
        return f"s3://{self.name}/{path}?{self.options}"

    def put(self, path: str, data: bytes) -> None:
        with self.fs.open_output_stream(f"{self.name}/{path}", compression=None) as stream:
            stream.write(data)


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """host:port of a real S3 server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> Bucket:
    """A bucket of its own for each test."""
    fs = pafs.S3FileSystem(endpoint_override=s3_server, scheme="http", region="us-east-1", allow_bucket_creation=True)
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    fs.create_dir(name)
    return Bucket(name, f"endpoint_override={s3_server}&scheme=http&region=us-east-1", fs)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout: public sample images and small weights, not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: this test reads the public samples there")
    return SHARED


@pytest.fixture(scope="session")
def shared_or_none() -> Path | None:
    """The same folder, for tests that have drawn images in its place."""
    return SHARED if SHARED.is_dir() else None


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


@pytest.fixture(scope="session")
def charted(tmp_path_factory) -> "Study":
    """Every study of cbmir, drawn: two encoders, three indexes, three seeds. Read it only."""
    from tests.scaling_studies import whole_study

    return whole_study(tmp_path_factory.mktemp("charts") / "study")


@pytest.fixture(scope="session")
def figure_files(charted) -> dict[str, bytes]:
    """Name of a file in its figures/ -> the bytes."""
    from cbmir.report import write_figures

    return {Path(path).name: Path(path).read_bytes() for path in write_figures(charted)}
