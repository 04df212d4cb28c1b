"""Image sizes: each architecture gives its vector, or says which sizes it takes; and takes those."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import timm
import torch

from cbmir.encoders import modules
from cbmir.encoders.build import build
from cbmir.encoders.sizes import nearest_valid
from cbmir.encoders.table import resolve
from cbmir.errors import UserError

ASKED = (28, 32, 56, 64, 112, 128, 224, 518)


@dataclass(frozen=True)
class Kind:
    """An architecture, small. `options` as TOML; step: what sizes are multiples of; least: the smallest that it takes."""

    model: str
    dim: int
    options: str = ""
    output: str = "pooled"
    step: int = 1
    least: int = 1


KINDS = {
    "vit16": Kind("timm:vit_tiny_patch16_224", 48, "depth = 1, embed_dim = 48", "cls", step=16),
    "vit14": Kind("timm:vit_small_patch14_dinov2", 48, "depth = 1, embed_dim = 48", "cls", step=14),
    "masked": Kind("timm:vit_tiny_patch16_224", 48, "depth = 1, embed_dim = 48", "masked_cls", step=16),
    "swin": Kind(
        "timm:swin_tiny_patch4_window7_224",
        64,
        "depths = [1, 1, 1, 1], embed_dim = 8, num_heads = [1, 1, 2, 2]",
        step=32,
    ),
    "sam": Kind(
        "timm:samvit_base_patch16",
        256,
        "depth = 2, embed_dim = 24, num_heads = 2, global_attn_indexes = [1]",
        "map_mean",
        step=16,
    ),
    "siglip": Kind("timm:vit_base_patch16_siglip_224", 48, "depth = 1, embed_dim = 48, num_heads = 2", step=16),
    "rope": Kind("timm:vit_small_patch16_dinov3", 48, "depth = 1, embed_dim = 48, num_heads = 2", "cls", step=16),
    "mixer": Kind("timm:mixer_s32_224", 512, "mlp_ratio = [0.1, 0.1]", step=32),
    "open_clip": Kind("open_clip:ViT-B-32", 512, "layers = 1, width = 64", "projected", step=32),
    "conch": Kind("conch:conch_ViT-B-16", 32, "depth = 1, width = 48, dim = 32, heads = 4", step=16),
    "resnet": Kind("timm:resnet18", 64, "layers = [1, 1, 1, 1], channels = [8, 16, 32, 64]"),
    "densenet": Kind("timm:densenet121", 68, "block_config = [1, 1, 1, 1]", least=29),
    "vgg": Kind("timm:vgg11", 512, "mlp_ratio = 0.01", "map_mean", least=32),
    "efficientnet": Kind("timm:test_efficientnet", 256),
}


@pytest.fixture
def spec_of(tmp_path):
    """Name of a kind -> a file that describes it, at whatever size the library has."""

    def write(name: str, **more: str) -> str:
        kind = KINDS[name]
        fields = {"model": kind.model, "output": kind.output, **more}
        lines = [f'{key} = "{value}"' for key, value in fields.items()]
        lines += [f"dim = {kind.dim}", f"options = {{ {kind.options} }}"]
        if kind.model.startswith("conch"):  # no library to ask
            lines += ["size = 448", 'mean = "clip"', 'std = "clip"']
        file = tmp_path / f"{name}.toml"
        file.write_text("\n".join(lines))
        return str(file)

    return write


def vector(name: str) -> np.ndarray:
    """(dim,) of a picture at the encoder's own size."""
    encoder = build(resolve(name))
    rng = np.random.default_rng(0)
    return encoder.encode(rng.integers(0, 256, (1, *encoder.spec.geometry.shape), np.uint8))[0]


@pytest.mark.parametrize("name", KINDS)
def test_a_size_gives_a_vector_or_names_sizes_that_do(name, spec_of):
    kind, file = KINDS[name], spec_of(name)
    for size in ASKED:
        if size % kind.step == 0 and size >= kind.least:
            found = vector(f"{file}@{size}~random0")
            assert found.shape == (kind.dim,)
            assert np.isfinite(found).all()
            continue
        with pytest.raises(UserError, match=rf"^{name}@{size}~random0 cannot take images of {size} pixels: ") as caught:
            build(resolve(f"{file}@{size}~random0"))
        message = str(caught.value)
        assert "\n" not in message
        assert message.endswith("; choose another --image-size")
        if kind.step > 1:
            lower, upper = size // kind.step * kind.step, (size // kind.step + 1) * kind.step
            near = [lower, upper] if lower else [upper]
            assert f"it sees multiples of {kind.step}; nearest: {' and '.join(map(str, near))};" in message
        else:
            near = [kind.least]
            assert f"the nearest larger size that it takes is {kind.least};" in message
        for valid in near:
            assert vector(f"{file}@{valid}~random0").shape == (kind.dim,)


def test_convolutional_networks_are_asked_for_their_least_size_only_once_it_can_be_that():
    tried = []
    assert nearest_valid(28, lambda size: tried.append(size) or size >= 75) == 75
    assert tried == list(range(29, 76))
    tried.clear()
    assert nearest_valid(28, lambda size: tried.append(size)) is None
    assert tried == list(range(29, 93))
    tried.clear()
    assert nearest_valid(518, lambda size: tried.append(size)) is None
    assert not tried  # such an image is not too small: a minute of tries would tell nothing


def test_an_image_that_is_smaller_is_not_the_larger_one_cut():
    """What is beyond the last whole patch would be lost in silence: hence the refusal."""
    module = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=48, img_size=56, num_classes=0).eval()
    images = torch.randn(1, 3, 56, 56)
    cut = images.clone()
    cut[:, :, 48:] = 0
    with torch.inference_mode():
        assert torch.equal(module(images), module(cut))


# --- weights of one size at another ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "native", "other"),
    [
        ("vit16", 224, 64),
        ("vit14", 224, 56),
        ("swin", 224, 64),
        ("siglip", 224, 128),
        ("rope", 224, 64),
        ("vit16", 64, 224),
    ],
)
def test_weights_at_another_size_are_as_timm_brings_them_there(name, native, other, spec_of, tmp_path):
    kind = KINDS[name]
    whole = f"{spec_of(name)}@{native}~random3"
    state = {key.removeprefix("trunk."): t for key, t in modules.load(resolve(whole), None).state_dict().items()}
    torch.save(state, tmp_path / "own.pth")
    torch.save({f"visual.trunk.{key}": tensor for key, tensor in state.items()}, tmp_path / "clip.pth")
    by_timm = build(resolve(f"{spec_of(name)}@{other}", weights=f"{tmp_path}/own.pth"))
    by_us = build(resolve(f"{spec_of(name, layout='open_clip_timm')}@{other}", weights=f"{tmp_path}/clip.pth"))
    assert by_us.weights_sha256 == by_timm.weights_sha256
    assert by_us.dim == kind.dim
    random = build(resolve(f"{spec_of(name)}@{other}~random3"))
    assert (by_us.weights_sha256 == random.weights_sha256) == (name == "rope")  # RoPE has no table to be moved


@pytest.mark.parametrize("other", [64, 80])
def test_segment_anything_is_brought_to_another_size(other, spec_of, tmp_path):
    """Its map of positions and its tables of offsets: vectors as timm's, which interpolates offsets as it runs."""
    state = modules.load(resolve(f"{spec_of('sam')}@256~random3"), None).trunk.state_dict()
    state = {key: torch.randn_like(tensor) * 0.1 if "pos" in key else tensor for key, tensor in state.items()}
    published = {f"image_encoder.{key.replace('mlp.fc', 'mlp.lin')}": tensor for key, tensor in state.items()}
    published |= {"pixel_mean": torch.zeros(3, 1, 1), "mask_decoder.iou_token.weight": torch.zeros(1, 256)}
    torch.save(published, tmp_path / "w.pth")
    encoder = build(resolve(f"{spec_of('sam', layout='sam')}@{other}", weights=f"{tmp_path}/w.pth"))
    found = encoder.module.trunk.state_dict()
    assert found["pos_embed"].shape == (1, other // 16, other // 16, 24)
    assert found["blocks.1.attn.rel_pos_h"].shape == (2 * other // 16 - 1, 12)
    assert found["blocks.0.attn.rel_pos_h"].shape == (27, 12)  # windows of 14 stay windows of 14
    reference = timm.create_model(
        "samvit_base_patch16", depth=2, embed_dim=24, num_heads=2, global_attn_indexes=[1], img_size=256, num_classes=0
    ).eval()
    reference.load_state_dict(state)
    reference.pos_embed.data = found["pos_embed"]
    pixels = np.random.default_rng(1).integers(0, 256, (2, other, other, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(encoder.spec.mean).view(3, 1, 1)) / torch.tensor(encoder.spec.std).view(3, 1, 1)
    with torch.inference_mode():
        expected = reference.forward_features(reference_size(reference, images)).mean((2, 3)).numpy()
    np.testing.assert_allclose(encoder.encode(pixels), expected, atol=1e-5 * np.abs(expected).max())


def reference_size(reference: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """timm checks the size of images against the one it was built for; its blocks do not."""
    reference.patch_embed.strict_img_size = False
    reference.patch_embed.img_size = None
    return images


@pytest.mark.parametrize("other", [224, 64])
def test_conch_is_brought_to_another_size(other, spec_of, tmp_path):
    state = modules.load(resolve(f"{spec_of('conch')}~random3"), None).state_dict()
    assert state["trunk.pos_embed"].shape == (1, 785, 48)
    torch.save({f"visual.{key}": tensor for key, tensor in state.items()}, tmp_path / "w.pth")
    encoder = build(resolve(f"{spec_of('conch', layout='conch')}@{other}", weights=f"{tmp_path}/w.pth"))
    places = 1 + (other // 16) ** 2
    assert encoder.module.trunk.pos_embed.shape == (1, places, 48)
    assert torch.equal(encoder.module.trunk.pos_embed[:, 0], state["trunk.pos_embed"][:, 0])
    assert re.fullmatch(r"[0-9a-f]{64}", encoder.weights_sha256)


def test_open_clip_weights_are_brought_to_another_size_as_open_clip_does(spec_of, tmp_path):
    from open_clip.model import resize_pos_embed

    state = modules.load(resolve(f"{spec_of('open_clip')}~random3"), None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    encoder = build(resolve(f"{spec_of('open_clip')}@96", weights=f"{tmp_path}/w.pth"))
    theirs = dict(state)
    model = torch.nn.Module()
    model.visual = torch.nn.Module()
    model.visual.grid_size = (3, 3)
    resize_pos_embed(theirs, model)
    found = encoder.module.visual.positional_embedding
    assert found.shape == (10, 64)
    torch.testing.assert_close(found.data, theirs["visual.positional_embedding"])
