"""Progress: what stands in a log every 30 seconds, and on a terminal."""

import io
import os
import pty

import pytest

from cbmir import progress
from cbmir.progress import Progress, clock


@pytest.fixture
def clock_at(monkeypatch):
    """A function that sets the time."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def set_to(seconds: float) -> None:
        now[0] = 1000.0 + seconds

    return set_to


def test_a_log_has_a_line_every_thirty_seconds(clock_at):
    log = io.StringIO()
    with Progress("embed", 1500, stream=log) as one:
        for second in range(100):
            clock_at(second)
            # nothing in the first ten seconds, in which encoders are loaded; then ten images a second
            one.update(max(0, (second - 9) * 10), failed=second // 40, note="bottleneck: decode")
    assert log.getvalue().splitlines() == [
        "embed: 210 / 1,500 images, 10.0/s, 0:02:09 left, bottleneck: decode",
        "embed: 510 / 1,500 images, 10.0/s, 0:01:39 left, 1 failed, bottleneck: decode",
        "embed: 810 / 1,500 images, 10.0/s, 0:01:09 left, 2 failed, bottleneck: decode",
    ]


def test_before_the_first_images_there_is_no_rate_and_at_the_end_nothing_left(clock_at):
    one = Progress("search", 20, unit="queries", stream=io.StringIO())
    clock_at(31)
    assert one.line("loading encoders") == "search: 0 / 20 queries, loading encoders"
    one.update(4)
    assert one.line() == "search: 4 / 20 queries"
    clock_at(35)
    one.update(25)  # counted twice by a task that was tried again
    assert one.line() == "search: 20 / 20 queries, 4.0/s"


def test_a_terminal_shows_the_same_figures(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        with Progress("embed", 1500, stream=terminal) as one:
            one._first = (one.started - 10.0, 0)
            one.update(500, failed=3, note="bottleneck: decode")
            one._bar.refresh()
        os.set_blocking(ours, False)
        shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "500/1500" in shown
    assert "/s, 0:00:" in shown
    assert "left, 3 failed, bottleneck: decode" in shown


@pytest.mark.parametrize("seconds, shown", [(0, "0:00:00"), (75.2, "0:01:15"), (36_000, "10:00:00")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown
