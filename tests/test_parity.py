"""Every row of the table held to an independent implementation: its weights in its format, its own processor, our loading path.

Weights are random, drawn so that each parameter matters (tests/parity/shake.py); images are drawn, and real where the
samples are at hand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cbmir.encoders.build import build
from cbmir.encoders.spec_file import rows
from cbmir.encoders.table import resolve
from cbmir.images.geometry import apply
from tests.parity.pictures import drawn, real
from tests.parity.references import REFERENCES

HELD = [name for name, spec in rows().items() if spec.parity]
LEAST = 0.9999


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, shared_or_none) -> list[np.ndarray]:
    """Six images; where the samples are missing, all of them are drawn."""
    found = drawn(tmp_path_factory.mktemp("pictures"), 2 if shared_or_none else 5)
    return found + (real(shared_or_none, 3) if shared_or_none else [])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, dim), (n, dim) -> (n,)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_every_row_says_whether_it_is_held_to_another_implementation():
    assert set(HELD) == set(REFERENCES)
    assert {spec.parity for spec in rows().values()} == {None, "transformers", "torchvision", "open_clip"}


@pytest.mark.parametrize("name", HELD)
def test_vectors_are_those_of_the_other_implementation(name, pictures, tmp_path, record_property):
    reference = REFERENCES[name](tmp_path, 11)
    spec = resolve(name, weights=str(reference.weights))
    pictures = pictures[::2] if spec.geometry.size > 1000 else pictures  # 4,096 patches an image
    spec = replace(spec, options=spec.options | (reference.options or {}))
    encoder = build(spec)
    ours = encoder.encode(np.stack([apply(spec.geometry, image) for image in pictures]))
    theirs = reference.vectors(pictures)
    assert ours.shape == theirs.shape == (len(pictures), spec.dim)
    found = cosines(ours, theirs)
    # images get vectors of their own, so that agreement says something; and it holds for what tells them apart
    assert cosines(ours[:-1], ours[1:]).max() < 0.9998
    centred = cosines(ours - theirs.mean(0), theirs - theirs.mean(0))
    print(f"{name}: least cosine {found.min():.7f}, of what differs between images {centred.min():.7f}")
    record_property("least_cosine", float(found.min()))
    assert found.min() >= LEAST
    assert centred.min() >= 0.999
