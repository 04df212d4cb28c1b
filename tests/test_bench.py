"""The benchmark of encoders, on the smallest of them: its figures are for people, but it has to run, also what is meant for a GPU."""

from __future__ import annotations

import pytest

from cbmir.encoders.spec_file import rows
from tests.bench import encoder_speed, one_encoder
from tests.bench.collection import draw


def test_both_sides_and_the_bare_forward_pass_of_a_transformer_and_a_convolutional_network(tmp_path, monkeypatch):
    monkeypatch.setattr(one_encoder, "MOST_IMAGES", {"cpu": 4})
    monkeypatch.setattr(one_encoder, "BARE_BATCHES", (1, 2))
    monkeypatch.setattr(one_encoder, "BARE_SECONDS", 0.1)
    root = str(draw(tmp_path, images=32))
    for name in ("timm:test_vit~random0", "timm:test_resnet~random0"):
        figures = one_encoder.measure(one_encoder.Task(name, "cpu", root, seconds=0.1, bare=True))
        assert figures.cosine >= encoder_speed.LEAST_COSINE
        assert min(figures.plain, figures.ours, figures.ratio, *figures.bare.values()) > 0
        row, head = encoder_speed.table_row(name, figures), encoder_speed.table_head("cpu", True)
        assert row.count("|") == head.partition("\n")[0].count("|") == head.partition("\n")[2].count("|")


def test_every_row_of_the_table_is_measured_once():
    specs = [spec for spec in encoder_speed.drawn(rows()) if spec.needs_weights]
    alike = encoder_speed.groups(specs)
    assert sorted(spec.name for group in alike for spec in group) == sorted(spec.name for spec in specs)
    assert len({spec.parameters for spec in specs}) <= len(alike) < len(specs)
    assert all(len({(s.model, s.output, s.geometry.shape, s.parameters) for s in group}) == 1 for group in alike)


def test_a_child_that_fails_says_why(tmp_path):
    task = one_encoder.Task("timm:test_vit@3~random0", "cpu", str(draw(tmp_path, images=32)), seconds=0.1)
    with pytest.raises(RuntimeError, match="cannot take images of 3 pixels"):
        encoder_speed.in_a_process(task)
