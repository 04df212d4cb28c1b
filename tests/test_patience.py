"""Storage that fails: what passes is waited out; what does not is one line; a server's fault is told from a file's."""

import errno
import gzip
import io
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from urllib.parse import quote

import numpy as np
import pytest

from cbmir import patience
from cbmir.images import files
from cbmir.images.errors import ImageError
from cbmir.images.read import read_image
from cbmir.patience import StorageError, patiently
from cbmir.store import Study
from tests.faults import Proxy
from tests.image_files import nifti, pillow

GREY = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)


class Failing:
    """Fails so often, then answers."""

    def __init__(self, *errors: OSError) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def hasty(monkeypatch):
    """Waits as in life, a hundred times as fast."""
    monkeypatch.setattr(patience, "PATIENCE", 0.6)
    sleep = time.sleep
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: sleep(seconds / 100))


SAID = {
    "reset": "When reading information for key 'x' in bucket 'b': AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7",
    "500": "AWS Error UNKNOWN (HTTP status 500) during HeadObject operation: No response body.",
    "503": "AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.",
    "429": "AWS Error UNKNOWN (HTTP status 429) during GetObject operation: none",
    "gcs": "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of {})",
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_what_passes_is_waited_out(hasty, said):
    call = Failing(*[OSError(said)] * 3)
    assert patiently(call, "s3://b/x") == "answer"
    assert call.calls == 4
    with pytest.raises(StorageError, match=r"^s3://b/x does not answer: .*; run the same command again when it does$"):
        patiently(Failing(*[OSError(said)] * 10_000), "s3://b/x")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        PermissionError(errno.EACCES, "AWS Error ACCESS_DENIED during GetObject operation"),
        OSError("AWS Error NO_SUCH_BUCKET during PutObject operation: The bucket does not exist"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_what_does_not_pass_is_not_asked_again(hasty, error):
    call = Failing(error)
    with pytest.raises(type(error)) as raised:
        patiently(call, "s3://b/x")
    assert raised.value is error
    assert call.calls == 1


def test_an_address_is_named_without_what_is_secret():
    address = "s3://key:secret@bucket/a%20b/c.png?endpoint_override=127.0.0.1:9000&scheme=http"
    assert patience.named(address) == "s3://bucket/a%20b/c.png"
    assert patience.named("/data/what? #1") == "/data/what? #1"


def test_a_full_disk_is_one_line():
    call = Failing(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StorageError, match=r"^/d/a: No space left on device; free some space and run the same command"):
        patiently(call, "/d/a")
    assert call.calls == 1


@pytest.fixture
def proxy(s3_server):
    """A proxy before the S3 server."""
    one = Proxy(s3_server, broken="/broken.png")
    yield one
    one.close()


@pytest.fixture
def address(s3, s3_server, proxy):
    """A path in the bucket -> its address behind the proxy."""
    return lambda path: s3.address(path).replace(s3_server, proxy.address)


def test_an_outage_longer_than_pyarrow_waits_is_not_noticed(s3, proxy, address):
    """Six seconds is what pyarrow asks again by itself. A stream goes on where it was cut, between two of its reads."""
    s3.put("a.png", pillow(GREY, "PNG"))
    s3.put("all", bytes(range(256)))
    study = Study(address("study"))
    with ThreadPoolExecutor(3) as pool, files.opened(address("all")) as file:
        begin = file.read(100)
        proxy.fail("500")
        reset, heal = Timer(4, proxy.fail, ["reset"]), Timer(8, proxy.fail, [None])
        reset.start(), heal.start()
        written = pool.submit(study.write_json, {"rows": 1}, "x", "run.json")
        pixels = pool.submit(read_image, address("a.png"))
        assert begin + file.read(100) + file.read() == bytes(range(256))
        np.testing.assert_array_equal(pixels.result()[:, :, 0], GREY)
        written.result()
    assert study.read_json("x", "run.json") == {"rows": 1}
    assert proxy.refused > 20


def test_a_file_that_alone_is_not_given_is_a_failure_and_a_silent_store_is_not(
    s3, s3_server, proxy, address, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE", 1.0)
    s3.put("broken.png", pillow(GREY, "PNG"))
    silent = Proxy(s3_server)
    silent.fail("reset")
    there = s3.address("other.png").replace(s3_server, silent.address)
    files._place(there)  # a client is not made while another waits for an answer
    with ThreadPoolExecutor(2) as pool:
        alone = pool.submit(files.read_bytes, address("broken.png"))
        other = pool.submit(files.read_bytes, there)
    silent.close()
    said = r"no answer for 1 s \(AWS Error .*500.*\), though the store answers for others; --retry-failures asks again"
    with pytest.raises(ImageError, match=said) as error:
        alone.result()
    assert error.value.stage == "read"
    assert "\n" not in str(error.value)
    with pytest.raises(StorageError, match=r"s3://[^?]*/other\.png does not answer: AWS Error NETWORK_CONNECTION"):
        other.result()


def test_volumes_and_arrays_on_an_object_store_are_read_in_portions(s3):
    volume = np.random.default_rng(0).integers(0, 255, (40, 40, 40), np.uint8)
    s3.put("v.nii.gz", gzip.compress(nifti(volume)))
    s3.put("v.npz", npz_bytes(volume))
    assert read_image(f"{s3.address('v.nii.gz')}#slice=3").shape == (40, 40, 3)
    np.testing.assert_array_equal(read_image(f"{s3.address('v.npz')}#array=a&row=3")[:, :, 0], volume[3])


def npz_bytes(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=values)
    return buffer.getvalue()


def test_files_of_a_bucket_are_read_side_by_side(s3, s3_server, address):
    """A filesystem for each file would have each wait for the others."""
    for name in ("a b.png", "a#b.png", "ü%.png", "a+b.png"):
        s3.put(f"scans/{name}", name.encode())
        assert files.read_bytes(address(f"scans/{quote(name)}")) == name.encode()
    assert files._place(address("x"))[0] is files._place(address("y"))[0]
    assert files._place(address("x"))[0] is not files._place(s3.address("x"))[0]
    with pytest.raises(ImageError, match="FileNotFoundError"):
        files.read_bytes(address("scans/none.png"))
    with pytest.raises(ImageError, match="ftp"):
        files.read_bytes("ftp://host/a.png")
