"""Resize and crop equal the published libraries' own transforms, pixel for pixel, at any size of image."""

import math

import numpy as np
import open_clip
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import ResizeKeepRatio
from torchvision import transforms

from cbmir.images.channels import in_color, in_grey
from cbmir.images.geometry import FILTERS, Geometry, apply, resized

MODES = {name: transforms.InterpolationMode(name) for name in FILTERS}
MEAN = (0.4815, 0.4578, 0.4082)
sides = st.one_of(st.integers(1, 12), st.integers(13, 90))
crops = st.integers(3, 24)


def drawn(width: int, height: int) -> np.ndarray:
    """An image of smooth and rough parts, the same for the same size."""
    rng = np.random.default_rng(width * 1000 + height)
    rough = rng.integers(0, 256, (height, width, 3))
    smooth = np.add.outer(np.arange(height) * 5, np.arange(width) * 3)[:, :, None] + [0, 60, 120]
    return np.where(rng.random((height, width, 1)) < 0.5, rough, smooth % 256).astype(np.uint8)


def assert_same(geometry: Geometry, transform, width: int, height: int) -> None:
    """`apply` gives what `transform` of torchvision's kind makes of the PIL image."""
    pixels = drawn(width, height)
    before = pixels.copy()
    found = apply(geometry, pixels)
    expected = transform(Image.fromarray(pixels))
    if hasattr(expected, "permute"):  # a tensor (3, size, size)
        expected = expected.permute(1, 2, 0).numpy()
    assert found.dtype == np.uint8
    assert found.shape == geometry.shape
    np.testing.assert_array_equal(found, np.asarray(expected).reshape(geometry.shape))
    np.testing.assert_array_equal(pixels, before)  # arrays that come in are not changed


@pytest.mark.parametrize("interpolation", FILTERS)
@settings(deadline=None, max_examples=40)
@given(width=sides, height=sides, size=crops, more=st.integers(0, 9))
@example(width=1, height=700, size=16, more=2)
@example(width=700, height=3, size=16, more=2)
@example(width=17, height=18, size=16, more=1)
@example(width=1, height=1, size=16, more=0)
@example(width=16, height=16, size=16, more=0)
def test_short_side_is_torchvisions_resize_and_centre_crop(interpolation, width, height, size, more):
    own = transforms.Compose(
        [transforms.Resize(size + more, interpolation=MODES[interpolation]), transforms.CenterCrop(size)]
    )
    geometry = Geometry(size=size, mode="short_side", resize=size + more, interpolation=interpolation)
    assert_same(geometry, own, width, height)


@pytest.mark.parametrize("interpolation", FILTERS)
@settings(deadline=None, max_examples=40)
@given(width=sides, height=sides, size=crops)
@example(width=1, height=700, size=16)
def test_squash_is_torchvisions_resize_to_a_square(interpolation, width, height, size):
    own = transforms.Resize((size, size), interpolation=MODES[interpolation])
    assert_same(Geometry(size=size, mode="squash", interpolation=interpolation), own, width, height)


TIMM_MODES = {"center": "short_side", "squash": "squash", "border": "long_side"}


@pytest.mark.parametrize("crop_mode", TIMM_MODES)
@settings(deadline=None, max_examples=80)
@given(
    width=sides,
    height=sides,
    size=crops,
    crop_pct=st.sampled_from([0.8, 0.875, 0.9, 0.95, 1.0]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
@example(width=90, height=2, size=24, crop_pct=0.8, interpolation="bicubic")  # border and crop at once
@example(width=11, height=10, size=8, crop_pct=0.8, interpolation="bicubic")
def test_timms_three_crop_modes(crop_mode, width, height, size, crop_pct, interpolation):
    resize = math.floor(size / crop_pct)
    assume(crop_mode != "border" or longest_leaves_a_pixel(width, height, resize))
    own = create_transform(
        (3, size, size), crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation, mean=MEAN, normalize=False
    )
    geometry = Geometry(
        size=size,
        mode=TIMM_MODES[crop_mode],
        resize=resize,
        interpolation=interpolation,
        fill=tuple(round(255 * m) for m in MEAN) if crop_mode == "border" else 0,
    )
    assert_same(geometry, own, width, height)


def longest_leaves_a_pixel(width: int, height: int, side: int) -> bool:
    """timm and open_clip themselves fail where the short side would be rounded to nothing."""
    return round(min(width, height) * side / max(width, height)) > 0


OPEN_CLIP_MODES = {"shortest": "short_side", "squash": "squash", "longest": "long_side"}


@pytest.mark.parametrize("resize_mode", OPEN_CLIP_MODES)
@settings(deadline=None, max_examples=60)
@given(
    width=sides,
    height=sides,
    size=crops,
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    fill=st.sampled_from([0, 127]),
)
@example(width=90, height=7, size=24, interpolation="bicubic", fill=127)
def test_open_clips_three_resize_modes(resize_mode, width, height, size, interpolation, fill):
    assume(resize_mode != "longest" or longest_leaves_a_pixel(width, height, size))
    own = open_clip.transform.image_transform(
        size, is_train=False, resize_mode=resize_mode, interpolation=interpolation, fill_color=fill
    )
    without_normalisation = transforms.Compose([t for t in own.transforms if "Resize" in repr(t) or "Crop" in repr(t)])
    assert 1 <= len(without_normalisation.transforms) <= 2
    geometry = Geometry(size=size, mode=OPEN_CLIP_MODES[resize_mode], interpolation=interpolation, fill=fill)
    assert_same(geometry, without_normalisation, width, height)


@settings(deadline=None, max_examples=300)
@given(width=st.integers(1, 6000), height=st.integers(1, 6000), side=st.integers(8, 1024))
def test_sizes_before_the_crop_are_rounded_as_theirs(width, height, side):
    shortest = transforms.functional._compute_resized_output_size((height, width), [side])
    longest = ResizeKeepRatio.get_params(Image.new("1", (width, height)), (side, side), 1.0)
    assert resized((width, height), Geometry(size=side)) == tuple(shortest[::-1])
    assert resized((width, height), Geometry(size=side, mode="long_side")) == tuple(max(1, x) for x in longest[::-1])


@pytest.mark.parametrize("mode", ["squash", "short_side", "long_side"])
@settings(deadline=None, max_examples=30)
@given(width=sides, height=sides, size=crops)
@example(width=1, height=700, size=16)
@example(width=700, height=1, size=16)
def test_every_mode_takes_every_size_of_image(mode, width, height, size):
    pixels = drawn(width, height)
    for geometry in (Geometry(size=size, mode=mode), Geometry(size=size, mode=mode, grey=True)):
        assert apply(geometry, pixels).shape == geometry.shape


def test_a_long_side_keeps_the_whole_image_between_borders():
    white = np.full((4, 16, 3), 255, np.uint8)
    found = apply(Geometry(size=8, mode="long_side", fill=(1, 2, 3)), white)
    assert (found[3:5] == 255).all()
    assert (found[[0, 1, 2, 5, 6, 7]] == [1, 2, 3]).all()


@settings(deadline=None, max_examples=60)
@given(width=sides, height=sides)
def test_grey_is_pillows_luminance(width, height):
    pixels = drawn(width, height)
    found = apply(Geometry(size=16, mode="squash", grey=True), pixels)
    expected = Image.fromarray(pixels).convert("L").resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(expected))


def test_grey_weighs_the_channels_as_itu_r_601():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]] * 4, np.uint8)
    found = apply(Geometry(size=4, mode="squash", grey=True), pixels)
    assert found[0, :, 0].tolist() == [76, 150, 29, 255]  # 255 times 0.299, 0.587, 0.114


def test_an_image_that_fits_is_not_resampled():
    pixels = drawn(16, 16)
    for mode in ("squash", "short_side", "long_side"):
        np.testing.assert_array_equal(apply(Geometry(size=16, mode=mode), pixels), pixels)


def test_an_unknown_mode_is_refused():
    with pytest.raises(
        ValueError,
        match="geometry mode 'fit'; expected one of: squash, short_side, long_side, long_side_corner, pad_square",
    ):
        apply(Geometry(size=8, mode="fit"), drawn(9, 9))


@settings(deadline=None, max_examples=150)
@given(
    width=sides,
    height=sides,
    size=crops,
    more=st.integers(0, 9),
    mode=st.sampled_from(["squash", "short_side", "long_side", "long_side_corner", "pad_square"]),
    interpolation=st.sampled_from(sorted(FILTERS)),
    fill=st.sampled_from([0, 77, (124, 116, 104)]),
    grey=st.booleans(),
)
def test_grey_as_one_channel_gives_the_levels_of_three(width, height, size, more, mode, interpolation, fill, grey):
    assume(not (grey and isinstance(fill, tuple)))  # a grey encoder's border has one level
    levels = drawn(width, height)[:, :, 1]
    three = np.repeat(levels[:, :, None], 3, axis=2)
    geometry = Geometry(size, mode, size + more, interpolation, grey=grey, fill=fill)
    assert in_grey(three).ndim == 2
    np.testing.assert_array_equal(in_grey(three), levels)
    np.testing.assert_array_equal(in_color(levels), three)
    np.testing.assert_array_equal(apply(geometry, levels), apply(geometry, three))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_level_of_color_keeps_three_channels(channel):
    pixels = np.full((40, 50, 3), 9, np.uint8)
    pixels[33, 41, channel] = 10
    assert in_grey(pixels) is pixels
