"""Where the time of a run went: worked by hand."""

import pytest

from cbmir.embedding.tally import Counts, Crew, Tally, bottleneck, in_words, summary
from cbmir.embedding.times import Times

TWO_GPUS = Crew(devices=2, cores=8, on_cores=False)


def told() -> Tally:
    """Two actors, busy from 110 to 120 and from 111 to 121 s, that hold two encoders; 200 images."""
    tally = Tally()
    for _ in range(2):
        tally.decoded(100, {"read": 1.0, "decode": 12.0, "resize": 3.0}, {28: 1})
    for actor, began in (("a", 110.0), ("b", 111.0)):
        tally.encoded(actor, 50, 1, {0: 3.0, 1: 1.5}, began, began + 5)
        tally.encoded(actor, 50, 0, {0: 3.0, 1: 1.5}, began + 5, began + 10)
    tally.wrote(200, 0.25)
    return tally


def test_summary_by_hand():
    found = summary(told().read(), ["vit", "cnn"], TWO_GPUS, began=100.0, ended=125.0)
    assert found == {
        "images": 200,
        "seconds": 25.0,
        "start_up_seconds": 10.0,
        "images_per_second": 18.18,  # 200 / 11
        "images_per_second_and_device": 9.09,
        "images_per_second_and_core": 2.27,
        "devices": 2,
        "cores": 8,
        "saturation": 0.818,  # 18 of 22 s
        "seconds_by": {
            "read": 2.0, "decode": 24.0, "resize": 6.0, "pass on": 2.0, "write": 0.25, "forward": {"vit": 12.0, "cnn": 6.0}, "wait": 4.0,
        },
        "bottleneck": "decode",
        "enlarged": {"28": 2},
    }  # fmt: skip
    assert in_words(found) == [
        "200 images in 25.0 s, of which 10.0 s to start: 18.2 images/s, 9.1 a device, 2.3 a core; devices computed 82 % of the time",
        "the workers' time: read 4 %, decode 46 %, resize 11 %, pass on 4 %, write 0 %, forward 34 %; bottleneck: decode",
    ]


def counts(forward: dict[int, float], seconds: dict[str, float], *, wall: float = 10.0) -> Counts:
    found = Counts(spans={"a": (0.0, wall)})
    found.forward.update(forward)
    found.seconds.update(seconds)
    return found


@pytest.mark.parametrize(
    "forward, seconds, crew, expected",
    [
        (
            {0: 9.0},
            {"decode": 40.0},
            Crew(1, 8, on_cores=False),
            "forward",
        ),  # a GPU that computes all the time waits for nobody
        ({0: 8.0}, {"decode": 40.0}, Crew(1, 8, on_cores=False), "decode"),
        ({0: 8.0, 1: 1.0}, {"decode": 40.0}, Crew(1, 8, on_cores=False), "forward of vit"),
        ({0: 1.0, 1: 8.0}, {"decode": 40.0}, Crew(1, 8, on_cores=False), "forward of cnn"),
        ({0: 1.0}, {"decode": 2.0, "read": 3.0}, Crew(1, 8, on_cores=False), "read"),
        (
            {0: 6.0},
            {"decode": 5.0},
            Crew(2, 2, on_cores=True),
            "forward",
        ),  # where cores are shared, whoever takes most of them
        ({0: 6.0}, {"decode": 5.0, "resize": 7.0}, Crew(2, 2, on_cores=True), "resize"),
        ({0: 0.0}, {"write": 1.0}, Crew(2, 2, on_cores=True), "write"),
    ],
)
def test_bottleneck_by_hand(forward, seconds, crew, expected):
    assert bottleneck(counts(forward, seconds), ["vit", "cnn"], crew) == expected


def test_bottleneck_of_the_last_while_forgets_what_was_before():
    before = counts({0: 1.0}, {"decode": 100.0}, wall=10.0)
    now = counts({0: 10.0}, {"decode": 101.0}, wall=20.0)
    crew = Crew(1, 8, on_cores=False)
    assert bottleneck(now, ["vit"], crew) == "decode"
    assert bottleneck(now, ["vit"], crew, before=before) == "forward"


def test_nothing_told_yet():
    assert bottleneck(Counts(), ["vit"], TWO_GPUS) == "loading encoders"
    found = summary(Counts(), ["vit"], TWO_GPUS, began=0.0, ended=1.0)
    assert (found["images"], found["saturation"], found["images_per_second"]) == (0, 0.0, 0.0)
    assert in_words(found)


def test_rows_are_done_when_the_last_group_of_encoders_has_them():
    tally = Tally()
    tally.encoded("a", 64, 0, {0: 1.0, 1: 1.0}, 0.0, 2.0)
    tally.encoded("a", 64, 0, {0: 1.0, 1: 1.0}, 2.0, 4.0)
    assert tally.read().done() == 128
    tally.encoded("b", 64, 2, {2: 1.0}, 2.0, 4.0)
    assert (tally.read().done(), tally.read().failed) == (64, 2)


def test_times_count_what_is_done_and_what_is_waited_for(monkeypatch):
    clock = iter([0.0, 1.5, 10.0, 10.25, 20.0, 21.0, 30.0, 30.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    times = Times()
    with pytest.raises(ValueError, match="broken"), times.of("decode"):
        raise ValueError("broken")
    assert list(times.each("read", "ab")) == ["a", "b"]
    assert times.seconds == {"decode": 1.5, "read": 1.25}
