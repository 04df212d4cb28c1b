"""Faults made for real, in whole runs: after each, and the same command again, every image is one embedding or one failure."""

import re
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from PIL import Image

from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
from cbmir.images.errors import ImageError
from cbmir.images.geometry import apply
from cbmir.images.read import read_image
from cbmir.schemas import image_key
from tests.faults import (
    Proxy,
    download,
    end,
    failures,
    hooked,
    images_of,
    one_line,
    peak_memory,
    readable,
    running,
    said_by,
    small_disk,
    study_of,
    two_nodes,
    vectors,
    whole,
)
from tests.fuzz_worker import mutated
from tests.image_files import png_chunks
from tests.processes import cbmir, children, kill, wait_for, written

VIT = "timm:test_vit~random0"
pytestmark = pytest.mark.slow


def command(study: Path | str, *more: str, encoder: str = "pixels32") -> list[str]:
    return ["embed", "--study", str(study), "--encoder", encoder, "--batch-size", "16", *more]


def assert_done(*arguments: str, said: str) -> None:
    """The same command once more has nothing to do, and says what the first one said."""
    again = cbmir(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == said.strip().splitlines()[-1]


# --- processes ---------------------------------------------------------------------------------------------------------


def test_a_machine_of_the_cluster_dies(phantoms, tmp_path):
    """SIGKILL of the second node's raylet: what it held is computed again on the first."""
    study = tmp_path / "study"
    study_of(study, images_of(phantoms), copies=5)
    with two_nodes() as (cluster, raylet), running(*command(study, "--ray-address", cluster)) as process:
        assert wait_for(lambda: written(study) > 0, seconds=120, process=process)
        below = children(raylet)
        assert any("EncodeBlocks" in line for line in below.values()), below
        kill(raylet)
        output = said_by(process)
        assert process.returncode == 0, output
        assert "Traceback" not in output
        assert whole(study, "pixels32") == (995, 5)
        assert_done(*command(study, "--ray-address", cluster), said=output)
    left = end(below)
    assert not left, f"processes of the dead node: {left}"


# --- memory and disk ---------------------------------------------------------------------------------------------------


def test_memory_runs_out_on_a_batch(phantoms, tmp_path):
    """torch's own allocator refuses whatever is more than four images: the batch is halved until it fits, and nothing is lost."""
    study, log = tmp_path / "study", tmp_path / "log"
    images = images_of(phantoms)
    study_of(study, images)
    plain = ("--precision", "float32", "--whole-decode")
    done = cbmir(*command(study, *plain, encoder=VIT), env=hooked(FAULT_MEMORY=4, FAULT_LOG=log))
    assert done.returncode == 0, done.stderr
    assert whole(study, VIT) == (199, 1)
    assert_done(*command(study, *plain, encoder=VIT), said=done.stdout)
    refused = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert 16 in refused
    assert len(refused) <= 8, "an encoder that has backed off does not try again"
    found, encoder = vectors(study, VIT), build(resolve(VIT))
    for name in list(images)[::40]:
        pixels = apply(encoder.spec.geometry, read_image(str(images[name])))
        np.testing.assert_allclose(found[image_key(f"0/{name}")], encoder.encode(pixels[None])[0], atol=2e-5)


def test_the_disk_is_full(phantoms, tmp_path):
    """Vectors of 230 kB on a disk of 200: one line, whole files, and with more space the same command ends well."""
    with small_disk(tmp_path / "disk", "200k") as disk:
        if isinstance(disk, str):
            pytest.skip(f"no filesystem of its own for a test on this machine: {disk}")
        seen, embed = disk.seen_from_outside / "study", command(disk.directory / "study")
        study_of(seen, images_of(phantoms))
        full = disk.run(*embed)
        assert full.returncode == 2, full.stderr
        said = one_line(full.stderr)
        expected = r"cbmir embed: .*/study/.*: No space left on device; free some space and run the same command again"
        assert re.fullmatch(expected, said), said
        assert 0 < readable(seen, "pixels32") < 200
        assert not list(seen.glob("**/*.tmp-*"))
        assert not (seen / "embeddings/encoder=pixels32/run.json").exists()
        disk.grow("20m")
        done = disk.run(*embed)
        assert done.returncode == 0, done.stderr
        assert whole(seen, "pixels32") == (199, 1)


# --- storage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_server):
    one = Proxy(s3_server)
    yield one
    one.close()


@pytest.fixture
def address(s3, s3_server, proxy):
    """A path in the bucket -> its address behind the proxy."""
    return lambda path: s3.address(path).replace(s3_server, proxy.address)


def uploaded(s3, address, images: dict[str, Path]) -> dict[str, str]:
    """image_id -> address of the same files on the object store."""
    for path in images.values():
        s3.put(f"images/{path.name}", path.read_bytes())
    return {name: address(f"images/{path.name}") for name, path in images.items()}


def test_the_object_store_fails_for_a_while(phantoms, s3, proxy, address, tmp_path):
    """Images and study on a server that answers 500 for five seconds and resets every connection for five more: the run goes on."""
    study_of(address("study"), uploaded(s3, address, images_of(phantoms)))

    def files() -> int:
        selector = pafs.FileSelector(f"{s3.name}/study/embeddings", recursive=True, allow_not_found=True)
        return sum(info.path.endswith(".parquet") for info in s3.fs.get_file_info(selector))

    with running(*command(address("study"))) as process:
        assert wait_for(files, seconds=120, process=process)
        for fault in ("500", "reset"):
            proxy.fail(fault)
            time.sleep(5)
        proxy.fail(None)
        output = said_by(process)
    assert process.returncode == 0, output
    assert proxy.refused > 20
    assert whole(download(s3.fs, f"{s3.name}/study", tmp_path / "study"), "pixels32") == (199, 1)
    assert_done(*command(address("study")), said=output)


def test_the_object_store_stays_away_and_comes_back_without_a_file(phantoms, s3, proxy, address, tmp_path):
    """An outage ends the run and is nobody's failure; a file that alone is not given is one, until it is asked for again."""
    images = dict(list(images_of(phantoms).items())[:60])
    study = tmp_path / "study"
    study_of(study, uploaded(s3, address, images), copies=3)
    hasty = hooked(FAULT_PATIENCE=1)
    with running(*command(study), env=hasty) as process:
        assert wait_for(lambda: written(study) > 0, seconds=120, process=process)
        proxy.fail("reset")
        output = said_by(process)
    assert process.returncode == 2, output
    said = one_line(output)
    expected = r"cbmir embed: s3://\S+ does not answer: AWS Error NETWORK_CONNECTION .*; run the same command again when it does"
    assert re.fullmatch(expected, said), said
    assert not failures(study, "pixels32")
    assert 0 < readable(study, "pixels32") < 180
    proxy.fail(None)
    lost = next(name for name in images if image_key(f"2/{name}") not in vectors(study, "pixels32"))
    proxy.broken = f"/{images[lost].name}"
    done = cbmir(*command(study, "--max-failures", "10%"), env=hasty)
    assert done.returncode == 0, done.stderr
    rows = failures(study, "pixels32")
    assert whole(study, "pixels32") == (180 - len(rows), len(rows))
    assert image_key(f"2/{lost}") in {row["image_key"] for row in rows}
    for row in rows:
        assert row["stage"] == "read"
        assert re.fullmatch(r"no answer for 1 s \(AWS Error .*\), .*; --retry-failures asks again", row["error"])
    proxy.broken = None
    again = cbmir(*command(study, "--retry-failures"))
    assert again.returncode == 0, again.stderr
    assert whole(study, "pixels32") == (180, 0)


# --- images ------------------------------------------------------------------------------------------------------------


def test_one_image_in_twenty_is_damaged(phantoms, tmp_path):
    images = images_of(phantoms)
    for i, (name, path) in enumerate(images.items()):
        if i % 20 == 7:
            images[name] = tmp_path / f"{i}{path.suffix}"
            images[name].write_bytes(mutated(path.read_bytes(), np.random.default_rng([2, i])))
    broken = {image_key(f"0/{name}") for name, path in images.items() if not decodes(path)}
    assert 3 <= len(broken) <= 11, "of ten damaged images, and one that was drawn broken"
    study = tmp_path / "study"
    study_of(study, images)
    done = cbmir(*command(study))
    assert done.returncode == 3, done.stderr
    assert f"{len(broken)} of 200 images failed" in one_line(done.stderr)
    assert whole(study, "pixels32") == (200 - len(broken), len(broken))
    assert {row["image_key"] for row in failures(study, "pixels32")} == broken
    allowed = cbmir(*command(study, "--max-failures", "10%"))
    assert allowed.returncode == 0, allowed.stderr


def decodes(path: Path) -> bool:
    try:
        return read_image(str(path)) is not None
    except ImageError:
        return False


def test_an_enormous_image_among_small_ones(phantoms, tmp_path):
    """400 million pixels are refused by their header; 132 million of color, just below the limit, take one worker to 1.5 GB."""
    images = dict(list(images_of(phantoms).items())[:20])
    images |= {name: tmp_path / name for name in ("enormous.png", "enormous.jpg", "large.png")}
    images["enormous.png"].write_bytes(black_png(20_000, 20_000))
    Image.new("L", (20_000, 20_000)).save(images["enormous.jpg"], quality=1)
    images["large.png"].write_bytes(black_png(12_000, 11_000, channels=3))
    study = tmp_path / "study"
    study_of(study, images)
    with running(*command(study, "--max-failures", "10%")) as process:
        peaks = peak_memory(process, "ray::")
        output = said_by(process)
    assert process.returncode == 0, output
    assert whole(study, "pixels32") == (21, 2)
    refused = {Path(row["uri"]).name: row["error"] for row in failures(study, "pixels32")}
    assert refused == dict.fromkeys(
        ["enormous.png", "enormous.jpg"], "the file's header promises more than 134,217,728 pixels"
    )
    assert image_key("0/large.png") in vectors(study, "pixels32")
    assert max(peaks.values()) > 900, f"the large image was decoded in none of these: {peaks}"
    assert max(peaks.values()) < 1700, peaks


def black_png(width: int, height: int, *, channels: int = 1) -> bytes:
    """Grey or color, eight bits, hundreds of megabytes in one."""
    packer, row = zlib.compressobj(1), bytes(1 + channels * width)
    data = b"".join(packer.compress(100 * row) for _ in range(height // 100)) + packer.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2 if channels == 3 else 0, 0, 0, 0])
    return png_chunks((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
