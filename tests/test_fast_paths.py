"""What is done to be quick, held to the slow way: JPEG decoded small, bytes between resize and encoder, bfloat16.

The reference path decodes whole, resizes and normalises in floating point without rounding to bytes, and runs in float32.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from PIL import Image

from cbmir.encoders.build import best_precision, build
from cbmir.encoders.table import resolve
from cbmir.images.geometry import FILTERS, Geometry, apply, reduction, resized
from cbmir.images.read import read_image
from tests.parity.shake import shake

LEAST = 0.999
COUNT = 24
NAMES = ("mobilenetv2", "timm:resnet18", "vit-b16-in21k,depth=6")


@pytest.fixture(scope="module")
def files(tmp_path_factory, shared_or_none) -> list[str]:
    """JPEG files of 500 to 2,400 pixels: the samples' radiographs saved so, or pictures of their kind."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(4)
    found = sorted((shared_or_none / "data").rglob("*.jp*g"))[::97] if shared_or_none else []
    paths = [str(path) for path in found if min(read_image(str(path)).shape[:2]) >= 500][: COUNT // 2]
    for i in range(COUNT - len(paths)):
        height, width = (int(side) for side in rng.integers(900, 2401, 2))
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        waves = sum(np.sin(y * a + x * b) for a, b in rng.normal(0, 0.05, (6, 2)))
        edges = 60.0 * (np.hypot(y - height / 2, x - width / 3) < rng.integers(100, 400))
        picture = 110 + 12 * waves + edges + rng.normal(0, 6, (height, width))
        path = root / f"{i}.jpg"
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path, quality=int(rng.integers(75, 96)))
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def encoders(shared_or_none):
    """By name: one that was trained, where its weights are at hand, and two whose every parameter matters."""

    @cache
    def made(name: str):
        if name != "mobilenetv2":
            encoder = build(resolve(f"{name}~random0"))
            shake(encoder.module, 5)
            return encoder
        if not shared_or_none:
            pytest.skip("no folder shared beside the checkout: this test reads the weights there")
        file = shared_or_none / "weights" / "mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors"
        return build(resolve("timm:mobilenetv2_100,pad_type=same", weights=str(file)))

    return made


def in_floats(encoder, image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> vector, without rounding between the resize and the encoder."""
    geometry = encoder.spec.geometry
    size = resized((image.shape[1], image.shape[0]), geometry)
    planes = [
        Image.fromarray(image[:, :, c].astype(np.float32)).resize(size, FILTERS[geometry.interpolation])
        for c in range(3)
    ]
    whole = np.stack([np.asarray(plane) for plane in planes])  # (3, h', w')
    left, top = ((side - geometry.size) for side in size)
    left, top = (left // 2, top // 2) if geometry.centre == "down" else (round(left / 2), round(top / 2))
    cut = whole[:, top : top + geometry.size, left : left + geometry.size] / 255
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (encoder.spec.mean, encoder.spec.std))
    with torch.inference_mode():
        return encoder.module(torch.from_numpy((cut - mean) / std)[None]).numpy()[0]


def show(name: str, path: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of two sets of vectors; prints the least and the 1st percentile."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    print(
        f"{path}, {name}: least cosine {found.min():.6f}, 1st percentile {np.percentile(found, 1):.6f}, of {len(found)} images"
    )
    return found


@pytest.fixture(scope="module")
def whole(files) -> list[np.ndarray]:
    return [read_image(file) for file in files]


def of(encoder, images: list[np.ndarray]) -> np.ndarray:
    return encoder.encode(np.stack([apply(encoder.spec.geometry, image) for image in images]))


def in_bfloat16(encoder):
    quick = build(encoder.spec, precision="bfloat16")
    quick.module.load_state_dict(encoder.module.state_dict())
    return quick


@pytest.mark.parametrize("name", NAMES)
def test_a_jpeg_decoded_small_gives_the_vectors_of_the_whole_one(name, files, whole, encoders):
    encoder = encoders(name)
    reduced = [read_image(file, partial(reduction, geometries=[encoder.spec.geometry])) for file in files]
    assert np.mean([a.size < b.size for a, b in zip(reduced, whole, strict=True)]) > 0.2
    vectors, reference = of(encoder, reduced), of(encoder, whole)
    assert not np.array_equal(vectors, reference)
    assert show(name, "JPEG decoded small", vectors, reference).min() >= LEAST


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_taken_where_it_gives_the_vectors_of_float32(name, whole, encoders):
    """Rounding to 8 bits a number is too coarse for a trained convolutional network: MobileNetV2's least cosine is 0.997."""
    encoder = encoders(name)
    found = show(name, "bfloat16", of(in_bfloat16(encoder), whole), of(encoder, whole))
    if best_precision("cpu", convolutional=False) == "bfloat16":
        assert (best_precision("cpu", convolutional=encoder.is_convolutional) == "bfloat16") == (
            encoder.patches is not None
        )
    assert encoder.patches is None or found.min() >= LEAST
    assert found.min() >= 0.99


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_resnet", "timm:resnetv2_50x1_bit", "open_clip:ViT-B-32"])
def test_weights_rounded_once_are_those_that_autocast_rounds_for_every_batch(name, monkeypatch):
    spec = resolve(f"{name}~random0")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *spec.geometry.shape), np.uint8)
    once = build(spec, precision="bfloat16")
    standardised = "bit" in name  # its convolutions compute with their weights in float32 first
    assert (torch.bfloat16 in {p.dtype for p in once.module.parameters()}) == (not standardised)
    monkeypatch.setattr("cbmir.encoders.torch_encoder.round_weights", lambda module, kind: None)
    each_time = build(spec, precision="bfloat16")
    assert {p.dtype for p in each_time.module.parameters()} == {torch.float32}
    np.testing.assert_array_equal(once.encode(pixels), each_time.encode(pixels))
    assert once.weights_sha256 == each_time.weights_sha256


@pytest.mark.parametrize("name", NAMES)
def test_bytes_between_resize_and_encoder_lose_little(name, whole, encoders):
    """The published pipelines round to bytes as well (tests/test_geometry.py: bit by bit as torchvision does): this is what all of them lose.

    A network that was trained for 8-bit arithmetic notices it most."""
    encoder = encoders(name)
    reference = np.stack([in_floats(encoder, image) for image in whole])
    found = show(name, "bytes", of(encoder, whole), reference)
    assert np.percentile(found, 25) >= LEAST
    assert found.min() >= (0.99 if name == "mobilenetv2" else LEAST)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_run_does_to_be_quick_together(name, files, whole, encoders):
    encoder = encoders(name)
    quick = in_bfloat16(encoder) if encoder.patches else encoder
    reduced = [read_image(file, partial(reduction, geometries=[encoder.spec.geometry])) for file in files]
    assert show(name, "all that a run does", of(quick, reduced), of(encoder, whole)).min() >= LEAST


@pytest.mark.parametrize(
    ("size", "geometries", "factor"),
    [
        (
            (448, 448),
            [Geometry(224, mode="squash")],
            2 // 2,
        ),  # reduced by 2, no more than the encoder's own pixels remain
        ((896, 896), [Geometry(224, mode="squash")], 2),
        ((2000, 3000), [Geometry(224)], 4),
        ((4000, 4000), [Geometry(224)], 8),
        ((4000, 4000), [Geometry(224), Geometry(518)], 2),
        ((4000, 100), [Geometry(224)], 1),
        ((3000, 3000), [Geometry(32, mode="squash", grey=True)], 8),
        ((4096, 2048), [Geometry(1024, mode="long_side_corner")], 2),
        ((2048, 2048), [Geometry(1024, mode="long_side_corner")], 1),
        ((1, 1), [Geometry(8)], 1),
    ],
)
def test_a_jpeg_is_reduced_only_as_far_as_twice_the_encoders_pixels_remain(size, geometries, factor):
    assert reduction(size, geometries) == factor


@pytest.mark.parametrize("width", range(901, 1000, 7))
def test_a_reduction_never_moves_the_crop(width):
    geometry = Geometry(224, resize=256)
    factor = reduction((width, 1777), [geometry])
    smaller = (-(-width // factor), -(-1777 // factor))
    assert resized(smaller, geometry) == resized((width, 1777), geometry)


def test_only_jpeg_is_reduced(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 600, 3), np.uint8))
    for suffix, side in (("png", 600), ("jpg", 300), ("tiff", 600)):
        image.save(tmp_path / f"a.{suffix}")
        assert read_image(str(tmp_path / f"a.{suffix}"), lambda size: 2).shape[1] == side


def test_a_turned_jpeg_is_reduced_and_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tile(np.arange(0, 250, dtype=np.uint8), (1000, 2))).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(str(tmp_path / "a.jpg")).shape == (500, 1000, 3)
    assert read_image(str(tmp_path / "a.jpg"), lambda size: 2).shape == (250, 500, 3)
