"""Files read ahead: the bytes that reading one by one gives, in order, errors included, and no more of them than is said."""

import threading

import pytest

from cbmir.images import ahead
from cbmir.images.ahead import one_ahead, read_ahead
from cbmir.images.errors import ImageError


@pytest.fixture
def files(tmp_path):
    made = []
    for i in range(40):
        path = tmp_path / f"{i}.png"
        path.write_bytes(bytes([i]) * (i + 1))
        made.append(str(path))
    return made


def test_bytes_come_in_order_with_errors_and_parts_in_their_places(files, tmp_path):
    uris = [
        *files[:5],
        str(tmp_path / "none.png"),
        f"{tmp_path}/a.npz#array=x&row=1",
        f"{tmp_path}/v.nii.gz",
        f"{files[3]}#frame=0",
        *files[5:],
    ]
    found = list(read_ahead(uris))
    assert isinstance(found[5], ImageError)
    assert found[5].stage == "read"
    assert found[6:9] == [None, None, None]  # their decoders read what they need
    assert found[:5] + found[9:] == [bytes([i]) * (i + 1) for i in range(40)]
    assert list(read_ahead([])) == []


def test_objects_of_a_bucket_are_read_ahead_too(s3, files):
    uris = []
    for i in range(3):
        s3.put(f"{i}.png", bytes([i]))
        uris.append(s3.address(f"{i}.png"))
    assert list(read_ahead(uris)) == [b"\0", b"\1", b"\2"]


def test_no_more_than_a_few_are_read_before_they_are_taken(files, monkeypatch):
    started, gate = [], threading.Semaphore(0)
    real = ahead.read_bytes

    def slow(location):
        started.append(location)
        return real(location)

    monkeypatch.setattr(ahead, "read_bytes", slow)
    stream = read_ahead(files)
    next(stream)
    gate.acquire(timeout=0.3)  # time for threads to run ahead, if they would
    assert len(started) <= ahead.LOCAL + 1
    stream.close()


def test_large_files_wait_for_those_before_them(files, monkeypatch):
    monkeypatch.setattr(ahead, "MOST_BYTES", 10)
    monkeypatch.setattr(ahead, "LOCAL", 8)
    assert list(read_ahead(files)) == [bytes([i]) * (i + 1) for i in range(40)]


def test_leaving_in_the_middle_leaves_no_thread(files):
    stream = read_ahead(files)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]


def test_one_ahead_is_the_same_items_with_the_next_one_being_made():
    made, asked = [], threading.Event()

    def items():
        for i in range(5):
            made.append(i)
            if i == 2:
                asked.set()
            yield i

    stream = one_ahead(items())
    assert next(stream) == 0
    assert next(stream) == 1
    assert asked.wait(timeout=10)  # the third is made although nobody has asked for it
    assert made == [0, 1, 2]
    assert list(stream) == [2, 3, 4]


def test_one_ahead_raises_where_the_items_do():
    def items():
        yield 1
        raise KeyError("x")

    stream = one_ahead(items())
    assert next(stream) == 1
    with pytest.raises(KeyError):
        next(stream)
    assert list(one_ahead(())) == []
