"""`--encoder spec.toml`: an encoder of one's own, written as the rows of the table are."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cbmir.encoders
from cbmir.encoders.build import build
from cbmir.encoders.layouts import LAYOUTS
from cbmir.encoders.modules import SOURCES as BUILDERS
from cbmir.encoders.names import parse_name
from cbmir.encoders.spec import FIELDS, OUTPUTS, EncoderSpec
from cbmir.encoders.spec_file import NORMS, SOURCES, read_spec, rows
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.images.geometry import Geometry

FULL = """
name = "mine"
summary = "a small vision transformer"
model = "timm:test_vit"
options = { depth = 1, act_layer = "gelu_tanh" }
weights = "weights/w.pth"
layout = "hf_vit"
output = "projected"
dim = 12
unit = true
size = 64
resize = 70
mode = "long_side"
interpolation = "lanczos"
grey = false
fill = [1, 2, 3]
mean = [0.1, 0.2, 0.3]
std = [1, 0.5, 0.25]
license = "MIT"
gated = true
parameters = 3
papers = ["a2024"]
trained_on = ["NIH ChestX-ray14"]
note = "none"
citation = "nobody, 2026"
"""
WRITTEN: dict[str, dict[str, Any]] = {
    name: values
    for file in sorted((Path(cbmir.encoders.__file__).parent / "rows").glob("*.toml"))
    for name, values in tomllib.loads(file.read_text(encoding="utf-8")).items()
}


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, (str, bool)) else repr(value)


def written(directory: Path, text: str | dict[str, Any], name: str = "spec.toml") -> str:
    """A file of that text, or of those fields."""
    if isinstance(text, dict):
        text = "\n".join(f"{key} = {toml(value)}" for key, value in text.items())
    (directory / name).write_text(text, encoding="utf-8")
    return str(directory / name)


def vectors(encoder) -> np.ndarray:
    return encoder.encode(np.random.default_rng(2).integers(0, 256, (2, *encoder.spec.geometry.shape), np.uint8))


# --- what a file may say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        "timm:test_vit",
        "timm:vit_base_patch16_224.mae",
        "timm:tf_efficientnetv2_m.in1k",
        "open_clip:ViT-B-32/openai",
        "open_clip:ViT-B-16-SigLIP/webli",
        "torchvision:squeezenet1_0",
    ],
)
def test_a_model_alone_takes_everything_else_from_its_library(model, tmp_path):
    spec, own = resolve(written(tmp_path, {"model": model})), resolve(model)
    assert spec == replace(own, name="spec", asked=f"{tmp_path}/spec.toml")
    assert spec.fingerprint("abc", "float32") == own.fingerprint("abc", "float32")


@pytest.mark.parametrize(
    ("model", "rest"), [("timm:test_vit", "~random4"), ("open_clip:ViT-B-32/openai", ",layers=1~random4")]
)
def test_a_model_of_a_library_runs(model, rest, tmp_path):
    ours, theirs = (build(resolve(f"{base}{rest}")) for base in (written(tmp_path, {"model": model}), model))
    np.testing.assert_array_equal(vectors(ours), vectors(theirs))


def test_what_is_written_goes_before_what_the_library_says(tmp_path):
    own = resolve("timm:test_vit")
    spec = resolve(written(tmp_path, {"model": "timm:test_vit", "size": 64, "mean": "clip", "output": "cls"}))
    assert spec.geometry == replace(own.geometry, size=64, resize=None)  # a size alone leaves nothing to be cut off
    assert (spec.mean, spec.std, spec.output) == (NORMS["clip"][0], own.std, "cls")
    spec = resolve(written(tmp_path, {"model": "timm:test_vit", "interpolation": "nearest"}))
    assert spec.geometry == replace(own.geometry, interpolation="nearest")
    assert (spec.checkpoint, spec.license) == (own.checkpoint, own.license)
    assert own.checkpoint.startswith("hf://timm/test_vit")


@pytest.mark.parametrize(
    ("more", "checkpoint"),
    [
        ({"weights": "w.pth"}, None),
        ({"checkpoint": "hf://a/b@main/c.safetensors"}, "hf://a/b@main/c.safetensors"),
        ({"layout": "hf_vit"}, None),  # names that the library's own file does not have
    ],
)
def test_the_librarys_weights_and_license_are_not_those_of_others(more, checkpoint, tmp_path):
    spec = resolve(written(tmp_path, {"model": "timm:test_vit"} | more))
    assert (spec.checkpoint, spec.license) == (checkpoint, None)


def test_a_file_may_say_all(tmp_path):
    assert resolve(written(tmp_path, FULL)) == EncoderSpec(
        name="mine", asked=f"{tmp_path}/spec.toml", source="timm", model="test_vit", summary="a small vision transformer",
        geometry=Geometry(size=64, resize=70, mode="long_side", interpolation="lanczos", fill=(1, 2, 3)),
        mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25), output="projected", dim=12, unit=True,
        options={"depth": 1, "act_layer": "gelu_tanh"}, weights=f"{tmp_path}/weights/w.pth", layout="hf_vit",
        license="MIT", gated=True, parameters=3, papers=("a2024",), trained_on=("NIH ChestX-ray14",), note="none",
        citation="nobody, 2026",
    )  # fmt: skip


def test_a_full_file_runs(tmp_path):
    encoder = build(resolve(f"{written(tmp_path, FULL)}~random0"))
    found = vectors(encoder)
    assert (encoder.dim, found.shape) == (12, (2, 12))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)  # unit = true


def test_every_field_of_a_spec_can_be_written_or_follows_from_the_name(tmp_path):
    with pytest.raises(UserError, match="unknown field 'zzzzzz'") as caught:
        resolve(written(tmp_path, {"zzzzzz": 1}))
    accepted = set(str(caught.value).partition("expected one of: ")[2].split(", "))
    geometry = set(Geometry.__dataclass_fields__) - {"detail"}  # follows from the name
    assert accepted == FIELDS - {"source", "geometry", "random_seed", "asked"} | geometry


def test_outputs_are_those_that_a_source_can_give():
    assert set(SOURCES) == {"pixels", *BUILDERS}
    assert {output for outputs in SOURCES.values() for output in outputs} == set(OUTPUTS)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_by_name_has_as_many_numbers_as_channels(norm, grey, tmp_path):
    spec = resolve(written(tmp_path, {"model": "timm:test_vit", "grey": grey, "mean": norm, "std": norm}))
    count = 1 if grey else 3
    assert (spec.mean, spec.std) == (NORMS[norm][0][:count], NORMS[norm][1][:count])
    assert spec.geometry.channels == count


def test_a_grey_file_takes_one_level_of_its_librarys_border(tmp_path):
    model = "timm:deepseek_vit_412m.deepseek_v4_1_flash"
    own = resolve(model).geometry
    assert (own.mode, own.fill) == ("long_side", (128, 128, 128))  # padded with the colour of the mean
    grey = resolve(written(tmp_path, {"model": model, "grey": True})).geometry
    assert grey == replace(own, grey=True, fill=128)


# --- its name --------------------------------------------------------------------------------------------------------


def test_the_name_is_the_files_or_the_one_that_it_gives(tmp_path):
    model = {"model": "timm:test_vit"}
    assert resolve(written(tmp_path, model, "chest_v1.2.toml")).name == "chest_v1.2"
    assert resolve(written(tmp_path, model | {"name": "other"}, "chest.toml")).name == "other"


# what stands around the path -> name in a study
NAMES = [
    ("{}", "own"),
    ("m={}", "m"),
    ("{}@96", "own@96"),
    ("{}@160", "own"),  # its own size
    ("{}~random0", "own~random0"),
    ("{},depth=1@96~random3", "own,depth=1@96~random3"),
    ("m={},depth=1@96~random3", "m~random3"),
]


@pytest.mark.parametrize(("around", "name"), NAMES)
def test_a_file_takes_part_in_the_grammar_of_names(around, name, tmp_path, monkeypatch):
    file = written(tmp_path, {"model": "timm:test_vit", "size": 160}, "own.toml")
    monkeypatch.chdir(tmp_path)
    spec = resolve(around.format("own.toml"))
    parsed = parse_name(around.format("own.toml"))
    assert spec.name == name
    assert spec.geometry.size == (parsed.size or 160)
    assert (spec.random_seed, spec.options) == (parsed.random_seed, parsed.options)
    assert parse_name(spec.asked).base == file  # a file is meant wherever the name is read again
    monkeypatch.chdir("/")
    assert resolve(spec.asked) == spec


def test_an_alias_changes_the_name_and_not_the_encoder(tmp_path):
    file = written(tmp_path, {"model": "timm:test_vit"}, "own.toml")
    own, alias = resolve(f"{file}@64~random0"), resolve(f"m={file}@64~random0")
    assert own.name != alias.name
    assert own.fingerprint("abc", "float32") == alias.fingerprint("abc", "float32")
    assert own.fingerprint("abc", "float32") != resolve(f"{file}@80~random0").fingerprint("abc", "float32")
    np.testing.assert_array_equal(vectors(build(own)), vectors(build(alias)))


# --- its weights -----------------------------------------------------------------------------------------------------


def test_weights_count_from_the_files_directory(tmp_path, monkeypatch):
    (tmp_path / "specs").mkdir()
    (tmp_path / "weights").mkdir()
    state = build(resolve("timm:test_vit~random5")).module.trunk.state_dict()
    torch.save(state, tmp_path / "weights" / "w.pth")
    file = written(tmp_path / "specs", {"model": "timm:test_vit", "weights": "../weights/w.pth"})
    monkeypatch.chdir("/")
    spec = resolve(file)
    assert spec.weights == spec.origin == f"{tmp_path}/weights/w.pth"
    np.testing.assert_array_equal(vectors(build(spec)), vectors(build(resolve("timm:test_vit~random5"))))
    monkeypatch.chdir(tmp_path)
    assert resolve("specs/spec.toml").weights == spec.weights


def test_weights_given_with_the_name_go_before_the_files(tmp_path):
    file = written(tmp_path, {"model": "timm:test_vit", "weights": "w.pth"})
    assert resolve(file, weights="/other.pth").weights == "/other.pth"
    assert resolve(f"{file}~random0").weights is None
    with pytest.raises(UserError, match=rf"no weights file {tmp_path}/w\.pth for spec; .*check --weights"):
        build(resolve(file))


@pytest.mark.parametrize("weights", ["hf://a/b@main/w.pth", "s3://bucket/w.pth", "/data/w.pth"])
def test_addresses_of_weights_stay_as_they_are(weights, tmp_path):
    assert resolve(written(tmp_path, {"model": "timm:test_vit", "weights": weights})).weights == weights


# --- what is refused -------------------------------------------------------------------------------------------------

VIT = 'model = "timm:test_vit"\n'
CHANNELS = "for pixels in 0..1, or one of: imagenet, half, clip"
# text of the file, what the one line says after the file's name
REFUSED = [
    ("", r"model = ''; expected SOURCE:MODEL with a source of: pixels, timm, open_clip, torchvision, conch"),
    ('model = "test_vit"', r"model = 'test_vit'; expected SOURCE:MODEL with a source of: "),
    ('model = "keras:vgg19"', r"model = 'keras:vgg19'; expected SOURCE:MODEL with a source of: "),
    ('model = "conch:"', r"model = 'conch:'; expected SOURCE:MODEL"),
    ('model = "conch:conch_v1_5"\nsize = 448', r"model = 'conch:conch_v1_5'; expected 'conch:conch_ViT-B-16'"),
    ('model = "pixels:rgb"\nsize = 32', r"model = 'pixels:rgb'; expected 'pixels:thumbnail'"),
    ('model = "timm:test_vi"', r"timm has no model 'test_vi'; nearest: .*'test_vit'"),
    (
        'model = "timm:test_vi"\nsize = 64\nmode = "squash"\ninterpolation = "bicubic"\nmean = "half"\nstd = "half"\noutput = "cls"',
        r"timm has no model 'test_vi'; nearest: .*'test_vit'",
    ),
    ('model = "timm:test_vit.nope"', r"timm has no weights 'test_vit.nope'; it has: "),
    ('model = "open_clip:ViT-B-3"', r"open_clip has no model 'ViT-B-3'; nearest: .*'ViT-B-32'"),
    ('model = "torchvision:resnet5"', r"torchvision has no classifier 'resnet5'; nearest: .*'resnet50'"),
    (VIT + "sise = 64", r"unknown field 'sise'; nearest: 'size'"),
    (VIT + "interpolate = 'bicubic'", r"unknown field 'interpolate'; nearest: 'interpolation'"),
    (VIT + "random_seed = 3", r"unknown field 'random_seed'; "),
    (VIT + "qqq = 3", r"unknown field 'qqq'; expected one of: .*checkpoint, .*weights"),
    ("model = 3", r"model = 3; expected str"),
    (VIT + "size = '64'", r"size = '64'; expected int"),
    (VIT + "size = 64.0", r"size = 64.0; expected int"),
    (VIT + "size = true", r"size = True; expected int"),
    (VIT + "unit = 1", r"unit = 1; expected bool"),
    (VIT + "options = 'depth=1'", r"options = 'depth=1'; expected dict"),
    (VIT + "name = 3", r"name = 3; expected str"),
    (VIT + "mean = 0.5", r"mean = 0.5; expected str or list"),
    (VIT + "papers = 'a2024'", r"papers = 'a2024'; expected list"),
    (VIT + "papers = [2024]", r"papers = \[2024\]; expected a list of texts"),
    (VIT + "trained_on = ['a', 1]", r"trained_on = \['a', 1\]; expected a list of texts"),
    (VIT + "size = 0", r"size = 0, resize = None; expected 1 or more pixels"),
    (VIT + "size = -64", r"size = -64, resize = None; expected 1 or more pixels"),
    (VIT + "resize = -1", r"size = 160, resize = -1; expected 1 or more pixels"),
    ('model = "conch:conch_ViT-B-16"', r"no size; expected size = PIXELS"),
    (
        VIT + "mode = 'crop'",
        r"mode = 'crop'; expected one of: squash, short_side, long_side, long_side_corner, pad_square",
    ),
    (VIT + "interpolation = 'cubic'", r"interpolation = 'cubic'; expected one of: nearest, bilinear, bicubic, lanczos"),
    (VIT + "centre = 'up'", r"centre = 'up'; expected one of: even, down"),
    (VIT + "output = 'clss'", r"output = 'clss'; expected one of: pooled, cls, "),
    (VIT + "output = 'thumbnail'", r"output = 'thumbnail'; expected one of: pooled, cls, "),
    ('model = "open_clip:RN50"\noutput = "cls"', r"output = 'cls'; expected one of: projected$"),
    (
        'model = "torchvision:squeezenet1_0"\noutput = "cls"',
        r"output = 'cls'; expected one of: pooled, logits, map_mean$",
    ),
    (
        'model = "conch:conch_ViT-B-16"\noutput = "projected"\nsize = 448\nmean = "clip"\nstd = "clip"',
        r"output = 'projected'; expected one of: pooled$",
    ),
    (VIT + "layout = 'hf_vitt'", r"unknown layout 'hf_vitt'; nearest: 'hf_vit'"),
    (VIT + "layout = '##'", r"unknown layout '##'; expected one of: own, "),
    (VIT + "mean = [0.5, 0.5]", rf"mean = \[0.5, 0.5\]; expected 3 numbers, {CHANNELS}"),
    (VIT + "mean = [0.5]", rf"mean = \[0.5\]; expected 3 numbers, {CHANNELS}"),
    (VIT + "mean = ['a', 'b', 'c']", rf"mean = \['a', 'b', 'c'\]; expected 3 numbers, {CHANNELS}"),
    (VIT + "mean = [true, 0, 0]", rf"mean = \[True, 0, 0\]; expected 3 numbers, {CHANNELS}"),
    (VIT + "mean = [nan, 0, 0]", rf"mean = \[nan, 0, 0\]; expected 3 numbers, {CHANNELS}"),
    (VIT + "mean = 'image_net'", rf"mean = 'image_net'; expected 3 numbers, {CHANNELS}"),
    (VIT + "std = [0.5, 0.5, 0]", rf"std = \[0.5, 0.5, 0\]; expected 3 numbers above 0, {CHANNELS}"),
    (VIT + "std = [0.5, 0.5, -0.1]", rf"std = \[0.5, 0.5, -0.1\]; expected 3 numbers above 0, {CHANNELS}"),
    (VIT + "std = [1, 1, inf]", rf"std = \[1, 1, inf\]; expected 3 numbers above 0, {CHANNELS}"),
    (VIT + "grey = true\nmean = [0, 0, 0]", rf"mean = \[0, 0, 0\]; expected 1 number, {CHANNELS}"),
    (VIT + "grey = true\nstd = [1, 1, 1]", rf"std = \[1, 1, 1\]; expected 1 number above 0, {CHANNELS}"),
    (VIT + "grey = true\nfill = [1, 2, 3]", r"fill = \[1, 2, 3\]; expected a level of 0..255$"),
    (VIT + "fill = [1, 2]", r"fill = \[1, 2\]; expected a level of 0..255, or three of them"),
    (VIT + "fill = [1, 2, 256]", r"fill = \[1, 2, 256\]; expected a level of 0..255, or three of them"),
    (VIT + "fill = [0.5, 0.5, 0.5]", r"fill = \[0.5, 0.5, 0.5\]; expected a level of 0..255, or three of them"),
    (VIT + "fill = -1", r"fill = -1; expected a level of 0..255, or three of them"),
    (VIT + "output = 'projected'", r"no dim; expected dim = N, the length of the projected vector"),
    (VIT + "dim = 0", r"dim = 0; expected 1 or more"),
    (VIT + "dim = -3", r"dim = -3; expected 1 or more"),
    (VIT + "name = 'a b'", r"name = 'a b'; expected name = one word of letters, digits"),
    (VIT + "name = 'm@64'", r"name = 'm@64'; expected name = one word"),
    (VIT + "name = 'm~random0'", r"name = 'm~random0'; expected name = one word"),
    (VIT + "name = ''", r"name = ''; expected name = one word"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_file_that_says_nonsense_is_refused_in_one_line(text, message, tmp_path):
    file = written(tmp_path, text)
    with pytest.raises(UserError, match=rf"^{re.escape(file)}: {message}") as caught:
        resolve(f"{file}~random0")
    assert "\n" not in str(caught.value)


def test_a_file_whose_name_would_mean_something_is_refused(tmp_path):
    file = written(tmp_path, VIT, "my encoder.toml")
    with pytest.raises(
        UserError, match=r"name = 'my encoder'; expected name = one word of letters, digits, '\.', '_' and '-'"
    ):
        resolve(file)
    assert resolve(written(tmp_path, VIT + "name = 'my'", "my encoder.toml")).name == "my"


BROKEN = [
    (b"model = ", r"encoder file .*spec\.toml: Invalid value \(at "),
    (b"[model]\n[model]", r"encoder file .*spec\.toml: Cannot declare .*model"),
    (b'model = "a"\nmodel = "b"', r"encoder file .*spec\.toml: Cannot overwrite a value"),
    (b"model = \xff", r"encoder file .*spec\.toml: .*can't decode byte 0xff"),
    (b"\x00\x01", r"encoder file .*spec\.toml: Invalid statement"),
    (b"[mine]\nmodel = 'timm:test_vit'", r"spec\.toml: unknown field 'mine'; "),  # as the table's files are, by name
]


@pytest.mark.parametrize(("data", "message"), BROKEN)
def test_a_broken_file_is_refused_in_one_line(data, message, tmp_path):
    (tmp_path / "spec.toml").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        resolve(f"{tmp_path}/spec.toml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_a_directory_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=rf"no encoder file {tmp_path}/none\.toml; expected a TOML file as docs/encoders\.md"
    ):
        resolve(f"{tmp_path}/none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match=rf"encoder file {tmp_path}/folder\.toml: .*[Ii]s a directory"):
        resolve(f"{tmp_path}/folder.toml")


def test_what_only_building_can_tell_is_told_in_one_line(tmp_path):
    wrong = written(tmp_path, VIT + "dim = 12")
    with pytest.raises(UserError, match=r"spec~random0 gives 64 numbers; expected dim = 12"):
        build(resolve(f"{wrong}~random0"))
    option = written(tmp_path, VIT + "options = { nosuch = 1 }")
    with pytest.raises(UserError, match=r"cannot build spec~random0: .*nosuch.*; check its options"):
        build(resolve(f"{option}~random0"))


# --- the table's rows, as files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_a_row_written_as_a_file_is_the_same_encoder(name, tmp_path):
    row, spec = rows()[name], read_spec(written(tmp_path, WRITTEN[name], f"{name}.toml"))
    assert spec == row
    other = read_spec(written(tmp_path, WRITTEN[name], "other.toml"))
    assert other == replace(row, name="other")
    assert other.fingerprint("abc", "float32") == row.fingerprint("abc", "float32")


@pytest.mark.parametrize(
    "name",
    [
        "pixels32",
        "mae-vit-b16-masked,depth=1",
        "dinov3-vit-s16,depth=1@64",
        "biomedclip,depth=1@64",
        "chexzero,layers=1",
    ],
)
def test_a_row_written_as_a_file_gives_the_same_vectors(name, tmp_path):
    parsed = parse_name(name)
    file = written(tmp_path, WRITTEN[parsed.base])
    ours, theirs = (build(resolve(name.replace(parsed.base, base), random_seed=1)) for base in (parsed.base, file))
    assert ours.weights_sha256 == theirs.weights_sha256
    found = vectors(ours)
    np.testing.assert_array_equal(found, vectors(theirs))
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", WRITTEN)
def test_every_row_comes_back_from_json(name):
    row = rows()[name]
    back = EncoderSpec.from_dict(json.loads(json.dumps(row.as_dict())))
    assert back == row
    assert back.fingerprint("abc", "float32") == row.fingerprint("abc", "float32")


def test_a_files_spec_comes_back_from_json(tmp_path):
    spec = resolve(f"m={written(tmp_path, FULL)}@96")
    back = EncoderSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert back == spec
    assert (back.name, back.geometry.fill, back.weights) == ("m", (1, 2, 3), f"{tmp_path}/weights/w.pth")


def test_every_layout_can_be_named_in_a_file(tmp_path):
    for layout in LAYOUTS:
        assert resolve(written(tmp_path, VIT + f"layout = '{layout}'")).layout == layout
