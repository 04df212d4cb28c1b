"""Names, weights and vectors of encoders, held to timm's and open_clip's own pipelines."""

import json
import pickle
import random
import socket
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cbmir.encoders import modules
from cbmir.encoders.build import build
from cbmir.encoders.names import ParsedName, parse_name
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.state import state_sha256
from cbmir.encoders.table import resolve
from cbmir.encoders.torch_encoder import TorchEncoder
from cbmir.errors import UserError
from cbmir.images.geometry import apply

TINY_CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def tiny_clip(tmp_path_factory):
    """open_clip learns an architecture of a few thousand weights, so that nothing here is slow."""
    path = tmp_path_factory.mktemp("open_clip") / "tiny-clip.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    del open_clip.factory._MODEL_CONFIGS["tiny-clip"]


TIMM, CLIP = "timm:test_resnet", "open_clip:tiny-clip"
FAMILIES = pytest.mark.parametrize("name", [TIMM, CLIP])


def images(count: int = 3) -> list[np.ndarray]:
    """(h, w, 3) uint8 of different sizes and shapes."""
    rng = np.random.default_rng(1)
    sizes = [(200, 260), (333, 181), (97, 97), (40, 300)][:count]
    waves = [np.add.outer(np.arange(h) * 0.11, np.arange(w) * 0.07)[:, :, None] + [0, 1, 2] for h, w in sizes]
    return [(127 + 90 * np.sin(wave) + rng.integers(-30, 30, wave.shape)).astype(np.uint8) for wave in waves]


def vectors(encoder) -> np.ndarray:
    """(n, dim) of `images()` by way of the encoder's own geometry."""
    return encoder.encode(np.stack([apply(encoder.spec.geometry, image) for image in images()]))


# --- names -----------------------------------------------------------------------------------------------------------

words = st.text("abcXYZ019._-", min_size=1, max_size=8)
bases = st.one_of(words, st.builds("{}:{}".format, words, words), st.builds("{}:{}/{}".format, words, words, words))
values = st.one_of(
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.none(),
    st.text("abcXYZ019._-:/\"'[]", min_size=1, max_size=8),
)
option_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
sizes = st.one_of(st.none(), st.integers(1, 5000))
seeds = st.one_of(st.none(), st.integers(0, 10**6))


@given(bases, st.dictionaries(option_names, values, max_size=3), sizes, seeds)
@example("b", {"x": True, "y": None}, 64, 0)
@example("b", {"x": "NaN", "y": "1e999"}, None, None)
@example("b", {"x": '"3"', "y": "null"}, None, None)
@example("b", {"x": "-0", "y": "0.10"}, None, None)
def test_a_canonical_name_reads_back_as_itself(base, options, size, seed):
    written = ParsedName(base, None, options, size, seed).canonical
    read = parse_name(written)
    assert read.canonical == written
    assert (read.base, read.alias, read.size, read.random_seed) == (base, None, size, seed)
    again = parse_name(read.canonical)
    assert again == read
    for key, value in options.items():
        assert read.options[key] == value or isinstance(value, str)  # a text may be what a number looks like


@given(words, bases, sizes)
def test_an_alias_is_the_name(alias, base, size):
    parsed = parse_name(f"{alias}={base}" + (f"@{size}" if size else ""))
    assert (parsed.canonical, parsed.alias, parsed.base, parsed.size) == (alias, alias, base, size)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:vit.tag", ParsedName("timm:vit.tag")),
        (" pixels32 ", ParsedName("pixels32")),
        (
            "m=timm:vit,pool_type=avg,depth=3@64~random0",
            ParsedName("timm:vit", "m", {"pool_type": "avg", "depth": 3}, 64, 0),
        ),
        ("timm:m,flag=True,rate=0.5", ParsedName("timm:m", None, {"flag": True, "rate": 0.5})),
        ("open_clip:ViT-B-32/laion2b_s34b@v2", ParsedName("open_clip:ViT-B-32/laion2b_s34b@v2")),
        ("a=b", ParsedName("b", "a")),
    ],
)
def test_names_are_taken_apart(name, expected):
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "a,b", "a~random", "a~random-1", "a@64@32", "a@0", "a=", "=a", "a,x=", "a~x", "a,1=2", "a@64,x=1"]
)
def test_a_name_that_does_not_parse_says_what_one_looks_like(name):
    with pytest.raises(UserError, match=r"does not parse; expected \[alias=\]NAME\[,option=value...\]"):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pixel32", r"unknown encoder 'pixel32'; nearest: 'pixels32'; see cbmir encoders"),
        ("zzz", r"unknown encoder 'zzz'; see cbmir encoders"),
        ("tim:resnet50", r"unknown encoder 'tim:resnet50'"),
        ("timm:mobilenetv2_10", r"timm has no model 'mobilenetv2_10'; nearest: .*'mobilenetv2_100'"),
        ("timm:", r"timm has no model ''; see timm.list_models"),
        ("timm:test_vit.nope", r"timm has no weights 'test_vit.nope'; it has: test_vit.r160_in1k"),
        ("open_clip:ViT-B-3", r"open_clip has no model 'ViT-B-3'; nearest: .*'ViT-B-32'"),
        ("open_clip:RN50/opena", r"open_clip has no weights 'opena' of RN50; it has: openai, yfcc15m, cc12m"),
        ("pixels32,x=1", r"encoder pixels32 takes no options; found x"),
        ("pixels32~random0", r"encoder pixels32 has no weights; leave --weights and ~random away"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name, message):
    with pytest.raises(UserError, match=message):
        resolve(name)


def test_weights_are_refused_where_they_have_no_use():
    with pytest.raises(UserError, match="encoder pixels32 has no weights"):
        resolve("pixels32", weights="w.pt")
    with pytest.raises(UserError, match="both weights from a file and random weights; expected one of them"):
        resolve("timm:test_vit~random0", weights="w.pt")


def test_a_seed_for_all_leaves_encoders_without_weights_alone():
    assert resolve("pixels32", random_seed=3) == resolve("pixels32")
    assert resolve(TIMM, random_seed=3).name == f"{TIMM}~random3"
    assert resolve(f"{TIMM}~random1", random_seed=3).random_seed == 1
    assert resolve(TIMM, random_seed=3, weights="w.pt").random_seed is None


# --- size ------------------------------------------------------------------------------------------------------------


def test_the_image_size_changes_the_geometry():
    by_name, by_flag = resolve("timm:test_vit@64~random0"), resolve("timm:test_vit~random0", image_size=64)
    assert by_name == by_flag
    assert by_name.asked == "timm:test_vit@64~random0"
    assert (by_name.geometry.size, by_name.geometry.resize) == (64, 67)  # crop 0.95: floor(64 / 0.95)
    assert by_name.name == "timm:test_vit@64~random0"
    assert resolve("timm:test_vit@64~random0", image_size=80).geometry.size == 64  # the name goes before the flag
    assert resolve("timm:test_vit~random0").geometry.size == 160


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [("timm:test_vit", 48, 64), ("timm:test_resnet", 50, 96), (CLIP, 48, 12), ("pixels32", 16, 256)],
)
def test_vectors_are_of_the_size_asked(name, size, dim):
    encoder = build(resolve(f"{name}@{size}", random_seed=0))
    assert encoder.spec.geometry.size == size
    assert encoder.dim == dim
    found = vectors(encoder)
    assert (found.shape, found.dtype) == ((3, dim), np.float32)


def test_the_own_size_is_no_other_encoder():
    assert resolve("pixels32@32") == resolve("pixels32")
    assert resolve("pixels32", image_size=32).name == "pixels32"


@pytest.mark.parametrize("name", ["timm:test_vit@10~random0", f"{CLIP}@4~random0"])
def test_a_size_that_the_architecture_cannot_take_is_refused(name):
    with pytest.raises(UserError, match=r"--image-size"):
        build(resolve(name))


def test_an_option_that_the_architecture_does_not_know_is_refused():
    with pytest.raises(
        UserError, match=r"cannot build timm:test_resnet,nosuch=1~random0: .*nosuch.*; check its options"
    ):
        build(resolve("timm:test_resnet,nosuch=1~random0"))


# --- specs as data ---------------------------------------------------------------------------------------------------

SPECS = [
    "pixels32",
    "pixels32@16",
    "timm:test_vit@64~random0",
    f"{CLIP}~random1",
    "timm:deit3_base_patch16_384.fb_in1k",
]


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_comes_back_from_json(name):
    spec = resolve(name)
    back = EncoderSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert back == spec
    assert back.fingerprint("abc", "float32") == spec.fingerprint("abc", "float32")


def test_a_spec_with_a_border_comes_back_from_json():
    spec = resolve("pixels32")
    spec = replace(spec, geometry=replace(spec.geometry, mode="long_side", grey=False, fill=(1, 2, 3)))
    assert EncoderSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_the_fingerprint_knows_what_decides_the_vectors_and_nothing_else():
    spec = resolve("timm:test_vit@64~random0")
    first = spec.fingerprint("abc", "float32")
    same = [replace(spec, name="other"), replace(spec, weights="/elsewhere/w.pt"), replace(spec, license="MIT")]
    assert {s.fingerprint("abc", "float32") for s in same} == {first}
    others = [
        replace(spec, geometry=replace(spec.geometry, resize=66)),
        replace(spec, geometry=replace(spec.geometry, interpolation="bilinear")),
        replace(spec, mean=(0.5, 0.5, 0.4)),
        replace(spec, std=(0.5, 0.5, 0.4)),
        replace(spec, options={"depth": 3}),
        replace(spec, unit=True),
        replace(spec, output="cls"),
        replace(spec, model="test_vit2"),
    ]
    prints = [s.fingerprint("abc", "float32") for s in others]
    prints += [spec.fingerprint("abd", "float32"), spec.fingerprint("abc", "bfloat16")]
    assert len({first, *prints}) == 11


# --- pixels32 --------------------------------------------------------------------------------------------------------


def test_pixels32_is_pillows_grey_thumbnail():
    encoder = build(resolve("pixels32"))
    thumbnails = [Image.fromarray(i).convert("L").resize((32, 32), Image.Resampling.BICUBIC) for i in images()]
    expected = np.stack([np.asarray(t, np.float32).ravel() / 255 for t in thumbnails])
    np.testing.assert_allclose(vectors(encoder), expected, rtol=1e-6)
    assert (encoder.dim, encoder.weights_sha256) == (1024, "none")


# --- random weights --------------------------------------------------------------------------------------------------


@FAMILIES
def test_random_weights_follow_their_seed_alone(name):
    torch.manual_seed(1)
    first = build(resolve(f"{name}~random0"))
    torch.manual_seed(2)
    again, other = build(resolve(f"{name}~random0")), build(resolve(f"{name}~random1"))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    np.testing.assert_array_equal(vectors(first), vectors(again))
    assert not np.allclose(vectors(first), vectors(other))


@FAMILIES
def test_random_weights_leave_the_callers_random_state_as_it_was(name):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    build(resolve(f"{name}~random0"))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


# --- weights from files ----------------------------------------------------------------------------------------------


def state_of(name: str, *, seed: int = 5) -> dict[str, torch.Tensor]:
    """A whole state dict as published: timm with a classifier of 7 classes, open_clip with its text half."""
    with modules._seeded(seed):
        if name == TIMM:
            return timm.create_model("test_resnet", num_classes=7).state_dict()
        return open_clip.create_model("tiny-clip", pretrained=None).state_dict()


def image_weight(state: dict[str, torch.Tensor]) -> str:
    """A parameter of the image half."""
    return next(k for k in state if k.endswith(("layer1.0.conv1.weight", "visual.conv1.weight")))


def torch_file(path: Path, state) -> str:
    torch.save(state, path)
    return str(path)


@FAMILIES
def test_the_same_weights_are_the_same_in_every_kind_of_file(name, tmp_path):
    state = state_of(name)
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    files = [
        str(tmp_path / "a.safetensors"),
        torch_file(tmp_path / "a.pth", state),
        torch_file(tmp_path / "b.pt", {"epoch": 3, "state_dict": state}),
        torch_file(tmp_path / "c.bin", {f"module.{key}": tensor for key, tensor in state.items()}),
    ]
    encoders = [build(resolve(name, weights=file)) for file in files]
    assert len({e.weights_sha256 for e in encoders}) == 1
    prints = {e.spec.fingerprint(e.weights_sha256, "float32") for e in encoders}
    assert len(prints) == 1  # the place of the weights does not count
    for other in encoders[1:]:
        np.testing.assert_array_equal(vectors(other), vectors(encoders[0]))
    changed = dict(state) | {image_weight(state): state[image_weight(state)] * 1.5}
    third = build(resolve(name, weights=torch_file(tmp_path / "d.pth", changed)))
    assert third.weights_sha256 != encoders[0].weights_sha256


def test_timm_weights_may_come_without_a_classifier(tmp_path):
    state = {k: v for k, v in state_of(TIMM).items() if not k.startswith("fc.")}
    bare = build(resolve(TIMM, weights=torch_file(tmp_path / "a.pth", state)))
    whole = build(resolve(TIMM, weights=torch_file(tmp_path / "b.pth", state_of(TIMM))))
    assert bare.weights_sha256 == whole.weights_sha256


def missing(state, key):
    return {k: v for k, v in state.items() if k != key}


def extra(state, key):
    return state | {"zzz.weight": torch.zeros(3)}


def reshaped(state, key):
    return state | {key: torch.zeros(*state[key].shape[:-1], state[key].shape[-1] + 1)}


@FAMILIES
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (missing, r"do not fit {model}: the file lacks key '{key}' \(1 such keys\)"),
        (extra, r"do not fit {model}: the file has the unexpected key 'zzz.weight' \(1 such keys\)"),
        (reshaped, r"do not fit {model}: '{key}' is \[.*\]; expected \[.*\]"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_that_do_not_fit_name_the_key(name, broken, message, suffix, tmp_path):
    state = state_of(name)
    key = image_weight(state)
    file = tmp_path / f"w.{suffix}"
    (torch.save if suffix == "pth" else safetensors.torch.save_file)(broken(dict(state), key), file)
    with pytest.raises(UserError, match=message.format(model=name.partition(":")[2], key=key)) as caught:
        build(resolve(name, weights=str(file)))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@FAMILIES
def test_weights_of_another_architecture_are_refused(name, tmp_path):
    other = state_of({TIMM: CLIP, CLIP: TIMM}[name])
    with pytest.raises(UserError, match=r"the file lacks key '.*' \([0-9]+ such keys\)"):
        build(resolve(name, weights=torch_file(tmp_path / "w.pth", other)))


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.write_text, (self.mark, "boom"))


@FAMILIES
@pytest.mark.parametrize("inside", ["pickle", "torch", "state_dict"])
def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(name, inside, tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "w.pth"
    if inside == "pickle":
        file.write_bytes(pickle.dumps({"w": Bomb(mark)}))
    elif inside == "torch":
        torch.save(Bomb(mark), file)
    else:
        torch.save({"state_dict": state_of(name), "note": Bomb(mark)}, file)
    with pytest.raises(UserError, match=r"cannot load .* from .*w\.pth: "):
        build(resolve(name, weights=str(file)))
    assert not mark.exists()
    if inside == "pickle":
        pickle.loads(file.read_bytes())
        assert mark.exists()  # the bomb is real


@FAMILIES
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("data", [b"", b"no weights at all", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_holds_no_weights_is_refused(name, suffix, data, tmp_path):
    (tmp_path / f"w.{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=rf"cannot load {name} from .*w\.{suffix}: "):
        build(resolve(name, weights=f"{tmp_path}/w.{suffix}"))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"no weights file /nowhere/w\.pth for timm:test_resnet; .*check --weights"):
        build(resolve(TIMM, weights="/nowhere/w.pth"))


# --- published weights that cannot be had ----------------------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """Neither weights on this machine nor a network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def no_name_server(*_):
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    return cache


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [("timm:test_vit.r160_in1k", "timm/test_vit.r160_in1k"), ("open_clip:RN50/openai", "timm/resnet50_clip.openai")],
)
@pytest.mark.parametrize("offline", [True, False])
def test_weights_that_cannot_be_had_name_hub_cache_and_flag(name, hub_id, offline, empty_cache, monkeypatch):
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reason = "the network is not to be used (offline)" if offline else "huggingface.co cannot be reached"
    with pytest.raises(
        UserError, match=rf"the weights of {name} cannot be had: 'hf://{hub_id}@main/.*' is not in the cache"
    ) as e:
        build(resolve(name))
    for part in (str(empty_cache), reason, "--weights FILE", "--random-weights SEED"):
        assert part in str(e.value)


def test_an_architecture_without_published_weights_says_so(empty_cache):
    with pytest.raises(UserError, match=r"timm:test_coatnet has no published weights; supply them with --weights FILE"):
        build(resolve("timm:test_coatnet"))
    with pytest.raises(UserError, match=rf"{CLIP} has no published weights; supply them with --weights FILE"):
        build(resolve(CLIP))


def test_random_weights_and_files_need_no_network(empty_cache, tmp_path):
    assert build(resolve(f"{TIMM}~random0")).dim == 96
    assert build(resolve(TIMM, weights=torch_file(tmp_path / "w.pth", state_of(TIMM)))).dim == 96


# --- vectors as the libraries' own ------------------------------------------------------------------------------------


def library_vectors(forward, transform) -> np.ndarray:
    """What a library makes of `images()` by its own transform and model, one image at a time."""
    with torch.inference_mode():
        return np.concatenate([forward(transform(Image.fromarray(i))[None]).numpy() for i in images()])


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-5 of the largest value; and the images told apart, so that equality says something."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)
    assert np.abs(np.diff(expected, axis=0) / scale).max() > 1e-3


def test_pretrained_timm_vectors_are_timms(shared):
    file = str(shared / "weights" / "mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors")
    model = timm.create_model(
        "mobilenetv2_100", pretrained=True, num_classes=0, pad_type="same", pretrained_cfg_overlay={"file": file}
    ).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    encoder = build(resolve("timm:mobilenetv2_100,pad_type=same", weights=file))
    assert encoder.dim == 1280
    assert_close(vectors(encoder), library_vectors(model, transform))


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "test_efficientnet"])
def test_timm_vectors_are_timms(architecture, tmp_path):
    with modules._seeded(5):
        model = timm.create_model(architecture, num_classes=3).eval()
    file = torch_file(tmp_path / "w.pth", model.state_dict())
    model.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    encoder = build(resolve(f"timm:{architecture}", weights=file))
    assert state_sha256(encoder.module.trunk) == state_sha256(model)
    assert_close(vectors(encoder), library_vectors(model, transform))


def test_open_clip_vectors_are_open_clips(tmp_path):
    file = torch_file(tmp_path / "w.pth", state_of(CLIP))
    model, _, transform = open_clip.create_model_and_transforms("tiny-clip", pretrained=file)
    encoder = build(resolve(CLIP, weights=file))
    assert_close(vectors(encoder), library_vectors(model.eval().encode_image, transform))


PUBLISHED = ["RN50/openai", "ViT-B-16-SigLIP/webli", "ViT-H-14-378-quickgelu/dfn5b", "PE-Core-T-16-384/meta"]


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_preprocessing_is_open_clips(model):
    architecture, tag = model.split("/")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
    transform = open_clip.transform.image_transform(
        size,
        is_train=False,
        mean=config.get("mean"),
        std=config.get("std"),
        resize_mode=config.get("resize_mode"),
        interpolation=config.get("interpolation"),
    )
    spec = resolve(f"open_clip:{model}")
    for image in images():
        normalised = (apply(spec.geometry, image).astype(np.float64) / 255 - spec.mean) / spec.std
        np.testing.assert_allclose(normalised.transpose(2, 0, 1), transform(Image.fromarray(image)).numpy(), atol=1e-5)


def test_activations_of_openais_weights_are_theirs():
    assert resolve("open_clip:ViT-B-32/openai").options == {"quick_gelu": True}
    assert resolve("open_clip:ViT-B-32-quickgelu/openai").options == {}
    assert resolve("open_clip:ViT-B-32/laion2b_s34b_b79k").options == {}


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pixels32", f"{TIMM}~random0", f"{CLIP}~random0"])
def test_vectors_do_not_depend_on_the_batch_and_pixels_stay_as_they_are(name):
    encoder = build(resolve(name))
    pixels = np.stack([apply(encoder.spec.geometry, image) for image in images(4)])
    before = pixels.copy()
    whole = encoder.encode(pixels)
    np.testing.assert_array_equal(pixels, before)
    parts = np.concatenate([encoder.encode(pixels[:1].copy()), encoder.encode(pixels[1:].copy())])
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    pixels.flags.writeable = False  # as shared memory is
    np.testing.assert_array_equal(encoder.encode(pixels), whole)


@pytest.mark.parametrize("name", ["timm:test_vit~random0", "timm:test_resnet~random0"])
def test_float16_is_near_float32(name, monkeypatch):
    """It is refused on a processor for being slow, which six images do not mind."""
    monkeypatch.setattr("cbmir.encoders.build.refuse_precision", lambda precision, device: None)
    spec = resolve(name)
    exact, half = build(spec), build(spec, precision="float16")
    pixels = np.random.default_rng(0).integers(0, 256, (6, *spec.geometry.shape), np.uint8)
    a, b = (encoder.encode(pixels).astype(np.float64) for encoder in (exact, half))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert half.precision == "float16"
    assert cosine.min() >= 0.9999
    assert not np.array_equal(a, b)


def test_bfloat16_is_near_float32_and_another_encoder():
    spec = resolve(f"{CLIP}~random0")
    exact, fast = build(spec), build(spec, precision="bfloat16")
    a, b = vectors(exact), vectors(fast)
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.999


def test_an_unknown_precision_is_refused():
    with pytest.raises(UserError, match="precision 'float8'; expected one of: float32, bfloat16, float16"):
        build(resolve(f"{TIMM}~random0"), precision="float8")


def test_an_output_that_is_no_vector_is_refused():
    spec = resolve(f"{CLIP}~random0")
    with pytest.raises(UserError, match=r"gives an array of shape \(1, 4, 32, 32\); expected \(1, dim\)"):
        TorchEncoder(spec, torch.nn.Conv2d(3, 4, 1), device="cpu", precision="float32")


# --- torchvision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ("squeezenet1_0", None),
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier"),
        ("swin_t", "head"),
        ("vit_b_32", "heads"),
    ],
)
def test_torchvision_vectors_are_what_goes_into_the_last_layer(model, layer, tmp_path):
    with modules._seeded(2):
        theirs = torchvision.models.get_model(model, weights=None).eval()
    file = torch_file(tmp_path / "w.pth", theirs.state_dict())
    encoder = build(resolve(f"torchvision:{model}", weights=file))
    transform = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    seen = []

    def forward(batch):
        if layer is None:
            return theirs.features(batch).mean((2, 3))
        theirs(batch)
        return seen.pop()

    if layer:
        last = getattr(theirs, layer)
        last = last if isinstance(last, torch.nn.Linear) else last[-1]
        last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    # torchvision resizes a PIL image as Pillow does
    assert_close(vectors(encoder), library_vectors(forward, transform))


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [
        ("torchvision:swin_t", "map_mean", "has no map of convolutions; expected output = 'pooled' or 'logits'"),
        ("timm:test_resnet", "cls_mean", "has no output 'cls_mean'; expected another of: "),
        ("timm:test_resnet", "mean", "has no output 'mean'; expected another of: "),
        ("timm:test_vit", "map_mean", "cannot take images of 160 pixels"),
    ],
)
def test_an_output_that_the_architecture_lacks_is_refused(name, output, message):
    spec = replace(resolve(f"{name}~random0"), output=output)
    with pytest.raises(UserError, match=message):
        build(spec)


def test_two_keys_for_one_tensor_are_refused(tmp_path):
    file = torch_file(tmp_path / "w.pth", {"visual.trunk.cls_token": torch.zeros(1), "cls_token": torch.zeros(1)})
    with pytest.raises(UserError, match=r"'visual.trunk.cls_token' and 'cls_token' are the same tensor, 'cls_token'"):
        build(resolve("biomedclip", weights=file))


def test_a_timm_tower_of_open_clip_takes_other_sizes(tmp_path):
    for size in (32, 64):
        encoder = build(resolve(f"open_clip:ViT-B-16-SigLIP@{size}~random0"))
        assert encoder.encode(np.zeros((1, size, size, 3), np.uint8)).shape == (1, 768)


@pytest.mark.parametrize("size", [48, 64])
def test_segment_anything_in_timms_names_takes_other_sizes(size, tmp_path):
    options = "depth=1,global_attn_indexes=[0]"
    with modules._seeded(1):
        theirs = timm.create_model("samvit_base_patch16", num_classes=0, img_size=64, depth=1, global_attn_indexes=[0])
    file = torch_file(tmp_path / "w.pth", theirs.state_dict())
    encoder = build(resolve(f"timm:samvit_base_patch16,{options}@{size}", weights=file))
    assert encoder.encode(np.zeros((2, size, size, 3), np.uint8)).shape == (2, 256)
