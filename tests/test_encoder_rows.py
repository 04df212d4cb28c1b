"""The table of encoders itself: every row whole, as large as it says, and the published papers' models among them.

Rows that no independent implementation holds are compared with their published configuration: names and shapes of
every key, written here by hand, and vectors computed here from such keys.
"""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, multi_head_attention_forward, normalize, silu, softmax

import cbmir.encoders
from cbmir.encoders import modules
from cbmir.encoders.addresses import HubFile, WebFile, parse
from cbmir.encoders.build import build
from cbmir.encoders.layouts import LAYOUTS, rename
from cbmir.encoders.spec import OUTPUTS
from cbmir.encoders.spec_file import rows
from cbmir.encoders.table import resolve
from cbmir.errors import UserError

TABLE = rows()
NETWORKS = [name for name, spec in TABLE.items() if spec.needs_weights]
State = dict[str, torch.Tensor]


@cache
def on_meta(name: str) -> torch.nn.Module:
    """The architecture of a row, without memory for its numbers: a ViT-g has a billion of them."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the libraries
        return modules.load(replace(TABLE[name], random_seed=0), None).eval()


# --- what a row says -------------------------------------------------------------------------------------------------

WRITTEN = {
    name: values
    for file in sorted((Path(cbmir.encoders.__file__).parent / "rows").glob("*.toml"))
    for name, values in tomllib.loads(file.read_text(encoding="utf-8")).items()
}


def test_no_row_stands_in_two_files():
    files = sorted((Path(cbmir.encoders.__file__).parent / "rows").glob("*.toml"))
    heads = [head for file in files for head in re.findall(r"(?m)^\[([^\]]+)\]$", file.read_text(encoding="utf-8"))]
    assert len(heads) == len(set(heads)) == len(TABLE) > 30
    assert set(heads) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_row_is_whole(name):
    spec = TABLE[name]
    assert spec.name == name
    # nothing that decides a vector is left to a default or to a library
    assert {"model", "output", "dim", "size", "mode", "interpolation", "mean", "std"} <= WRITTEN[name].keys()
    assert len(spec.summary) > 20
    assert "\n" not in spec.summary + spec.note + spec.citation
    assert re.search(r"(19|20)\d\d|arXiv \d{4}\.\d{5}", spec.citation)
    assert spec.output in OUTPUTS
    assert spec.dim > 0
    assert spec.license or re.search("license.* not verified", spec.note)
    assert len(spec.mean) == len(spec.std) == spec.geometry.channels
    assert not re.search(r"[,@~=/:\s]", name)  # each of them has a meaning in a name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_says_where_its_weights_are_or_how_to_get_them(name):
    spec = TABLE[name]
    if spec.checkpoint is None:
        assert "--weights" in spec.note
        return
    where = parse(spec.checkpoint)
    assert isinstance(where, (HubFile, WebFile))
    if isinstance(where, HubFile):
        assert re.fullmatch(r"[0-9a-f]{40}|main", where.revision)
        assert where.is_pinned == (where.revision != "main")
        assert all(re.fullmatch(r"[\w.-]+\.(safetensors|bin|pt|pth)", file) for file in where.files)
    else:
        assert where.url.startswith("https://")
    assert spec.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", spec.sha256)


def test_rows_of_one_file_agree_about_it():
    """The same checkpoint has one digest, one license, one layout, and one answer about what it was trained on."""
    facts: dict[str, set] = {}
    for spec in TABLE.values():
        if spec.checkpoint:
            said = (spec.sha256, spec.license, spec.gated, spec.layout, spec.trained_on, spec.model, spec.source)
            facts.setdefault(spec.checkpoint, set()).add(said)
    assert {address: said for address, said in facts.items() if len(said) > 1} == {}
    assert len(facts) < len(TABLE)  # some rows do share a file


# --- how large it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_architecture_has_as_many_parameters_as_the_row_says(name):
    tensors = [*on_meta(name).parameters(), *on_meta(name).buffers()]
    assert all(tensor.is_meta for tensor in tensors)
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == TABLE[name].parameters


# row -> size in bytes of a published file that has the image part alone, in float32; a few kB of it are names
PUBLISHED_BYTES = {
    "uni": 1_213_527_781,
    "rad-dino": 346_345_912,
    "resnet50-logits": 102_469_840,  # timm/resnet50.a1_in1k, the same architecture with its classifier
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED_BYTES.items())
def test_parameters_fill_the_published_file(name, size):
    numbers = sum(t.numel() for t in on_meta(name).state_dict().values())
    assert 0 <= size - 4 * numbers < 200_000


def test_parameters_are_those_that_authors_print():
    assert TABLE["prov-gigapath"].parameters == 1_134_953_984  # its README: "param # 1134953984"
    classifier = 18 * 1024 + 18
    assert TABLE["xrv-densenet121"].parameters + classifier == 6_966_034  # torchxrayvision's densenet121-res224-all


@pytest.mark.parametrize("name", NETWORKS)
def test_the_vector_is_as_long_as_the_row_says(name):
    spec, module = TABLE[name], on_meta(name)
    channels = next(part.in_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d))
    assert channels in (3, spec.geometry.channels)
    shape = (2, channels, spec.geometry.size, spec.geometry.size)
    with torch.inference_mode(), torch.device("meta"):
        noise = (torch.zeros(2, module.trunk.patch_embed.num_patches),) if spec.output == "masked_cls" else ()
        assert module(torch.zeros(shape), *noise).shape == (2, spec.dim)


def test_the_thumbnail_is_as_long_as_its_row_says():
    spec = TABLE["pixels32"]
    assert build(spec).encode(np.zeros((2, *spec.geometry.shape), np.uint8)).shape == (2, spec.dim)


# --- the papers' models ----------------------------------------------------------------------------------------------

# row: part of the address or model, output, dim, normalised; from the papers' own code
DENNER = {
    "vit-b16-in21k": ("google/vit-base-patch16-224-in21k", "cls", 768, False),
    "mae-vit-b16-masked": ("facebook/vit-mae-base", "masked_cls", 768, False),
    "dinov2-vit-b14": ("facebook/dinov2-base", "cls", 768, False),
    "clip-vit-l14": ("vit_large_patch14_clip_224.openai", "projected", 768, False),
    "biomedclip": ("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "projected", 512, False),
    "medclip-vit": ("pytrial/medclip-vit-pretrained.zip", "projected", 512, True),
    "sam-vit-b": ("facebook/sam-vit-base", "map_mean", 256, False),
    "medsam-vit-b": ("medsam_vit_b.pth", "map_mean", 256, False),
    "resnet50-logits": ("microsoft/resnet-50", "logits", 1000, False),
}
MAHBOD = {
    "vgg19": ("vgg19", "map_mean", 512, False),
    "resnet50-tv": ("resnet50", "pooled", 2048, False),
    "densenet121": ("densenet121", "pooled", 1024, False),
    "efficientnetv2-m": ("efficientnetv2_m", "pooled", 1280, False),
    "medclip-vit-padded": ("pytrial/medclip-vit-pretrained.zip", "projected", 512, True),
    "biomedclip": ("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "projected", 512, False),
    "openclip-vit-g14": ("laion/CLIP-ViT-g-14-laion2B-s34B-b88K", "projected", 1024, False),
    "conch": ("MahmoodLab/conch", "pooled", 512, True),
    "uni": ("MahmoodLab/UNI@", "cls", 1024, False),
    "virchow": ("paige-ai/Virchow@", "cls_mean", 2560, False),  # its code loads the two, and prints no figure
    "virchow2": ("paige-ai/Virchow2@", "cls_mean", 2560, False),
}


@pytest.mark.parametrize(("paper", "models"), [("denner2024", DENNER), ("mahbod2024", MAHBOD)])
def test_a_papers_models_are_rows_that_say_so(paper, models):
    assert {name for name, spec in TABLE.items() if paper in spec.papers} == set(models)
    for name, (address, output, dim, unit) in models.items():
        spec = TABLE[name]
        assert address in spec.checkpoint, name
        assert (spec.output, spec.dim, spec.unit) == (output, dim, unit), name
    assert {paper for spec in TABLE.values() for paper in spec.papers} == {"denner2024", "mahbod2024"}


# row: mode, size, resize, interpolation, mean of the first channel; from the first paper's code
DENNER_PIXELS = {
    "vit-b16-in21k": ("squash", 224, 224, "bilinear", 0.5),
    "mae-vit-b16-masked": ("squash", 224, 224, "bilinear", 0.485),
    "dinov2-vit-b14": ("short_side", 224, 256, "bicubic", 0.485),
    "clip-vit-l14": ("short_side", 224, 224, "bicubic", 0.48145466),
    "biomedclip": ("short_side", 224, 224, "bicubic", 0.48145466),
    "medclip-vit": ("short_side", 224, 224, "bicubic", 0.5862785803043838),
    "sam-vit-b": ("long_side_corner", 1024, 1024, "bilinear", 0.485),
    "medsam-vit-b": ("long_side_corner", 1024, 1024, "bilinear", 0.485),
    "resnet50-logits": ("short_side", 224, 256, "bicubic", 0.485),
}


@pytest.mark.parametrize("name", DENNER)
def test_pixels_come_as_in_the_first_paper(name):
    spec = TABLE[name]
    geometry = spec.geometry
    found = (geometry.mode, geometry.size, geometry.resize or geometry.size, geometry.interpolation, spec.mean[0])
    assert found == DENNER_PIXELS[name]
    assert not geometry.grey


# --- rows without an independent implementation ----------------------------------------------------------------------


@dataclass(frozen=True)
class Vit:
    """A published vision transformer. hidden: rows of fc1; placed: rows of the position table beside the patches."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    size: int = 224
    registers: int = 0
    placed: int = 1
    gated: bool = True  # SwiGLU: half of fc1 gates the other half
    scaled: bool = True  # LayerScale

    def keys(self, depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of a file with `depth` blocks."""
        width, patches = self.width, (self.size // self.patch) ** 2
        yield "cls_token", (1, 1, width)
        if self.registers:
            yield "reg_token", (1, self.registers, width)
        yield "pos_embed", (1, self.placed + patches, width)
        yield from _affine("patch_embed.proj", width, 3, self.patch, self.patch)
        for i in range(depth):
            yield from _norm(f"blocks.{i}.norm1", width)
            yield from _affine(f"blocks.{i}.attn.qkv", 3 * width, width)
            yield from _affine(f"blocks.{i}.attn.proj", width, width)
            yield from _norm(f"blocks.{i}.norm2", width)
            yield from _affine(f"blocks.{i}.mlp.fc1", self.hidden, width)
            yield from _affine(f"blocks.{i}.mlp.fc2", width, self.hidden // 2 if self.gated else self.hidden)
            if self.scaled:
                yield from ((f"blocks.{i}.ls{j}.gamma", (width,)) for j in (1, 2))
        yield from _norm("norm", width)

    def tokens(self, state: State, images: torch.Tensor, depth: int) -> torch.Tensor:
        """(n, 3, size, size) -> (n, 1 + registers + patches, width), after the last norm."""

        def apply(name: str, x: torch.Tensor) -> torch.Tensor:
            return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

        def norm(name: str, x: torch.Tensor) -> torch.Tensor:
            return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

        patches = conv2d(
            images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=self.patch
        )  # (n, width, h, w)
        patches = patches.flatten(2).mT
        first = torch.cat([state["cls_token"], *([state["reg_token"]] if self.registers else [])], dim=1)
        first = first.expand(len(images), -1, -1)
        if self.placed:
            x = torch.cat([first, patches], dim=1) + state["pos_embed"]
        else:
            x = torch.cat([first, patches + state["pos_embed"]], dim=1)
        for i in range(depth):
            scale = [state[f"blocks.{i}.ls{j}.gamma"] if self.scaled else 1.0 for j in (1, 2)]
            qkv = apply(f"blocks.{i}.attn.qkv", norm(f"blocks.{i}.norm1", x))
            q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
            weights = softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)  # (n, heads, tokens, tokens)
            x = x + scale[0] * apply(f"blocks.{i}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
            hidden = apply(f"blocks.{i}.mlp.fc1", norm(f"blocks.{i}.norm2", x))
            if self.gated:
                gate, value = hidden.chunk(2, dim=2)
                hidden = silu(gate) * value
            else:
                hidden = gelu(hidden)
            x = x + scale[1] * apply(f"blocks.{i}.mlp.fc2", hidden)
        return norm("norm", x)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _affine(name: str, rows: int, *rest: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, *rest)
    yield f"{name}.bias", (rows,)


# mahmoodlab/TRIDENT, trident/patch_encoder_models/load.py, and the models' own config.json
VITS = {
    "uni2-h": Vit(width=1536, depth=24, heads=24, hidden=8192, patch=14, registers=8, placed=0),
    "virchow": Vit(width=1280, depth=32, heads=16, hidden=6832, patch=14),
    "virchow2": Vit(width=1280, depth=32, heads=16, hidden=6832, patch=14, registers=4, placed=5),
    "prov-gigapath": Vit(width=1536, depth=40, heads=24, hidden=8192, patch=16),
    "h-optimus-0": Vit(width=1536, depth=40, heads=24, hidden=8192, patch=14, registers=4, placed=0),
    "h-optimus-1": Vit(width=1536, depth=40, heads=24, hidden=8192, patch=14, registers=4, placed=0),
}
# mahmoodlab/CONCH, conch/open_clip_custom: model_configs/conch_ViT-B-16.json, vision_tower.py, transformer.py
CONCH = Vit(width=768, depth=12, heads=12, hidden=3072, patch=16, size=448, gated=False, scaled=False)


def conch_image_keys(depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What CONCH's vector is made of."""
    yield from ((f"visual.trunk.{name}", shape) for name, shape in CONCH.keys(depth))
    yield "visual.attn_pool_contrast.query", (1, 512)
    yield "visual.attn_pool_contrast.attn.q_proj_weight", (512, 512)
    yield "visual.attn_pool_contrast.attn.k_proj_weight", (512, 768)
    yield "visual.attn_pool_contrast.attn.v_proj_weight", (512, 768)
    yield "visual.attn_pool_contrast.attn.in_proj_bias", (1536,)
    yield from _affine("visual.attn_pool_contrast.attn.out_proj", 512, 512)
    yield from _norm("visual.attn_pool_contrast.ln_q", 512)
    yield from _norm("visual.attn_pool_contrast.ln_k", 768)
    yield from _norm("visual.ln_contrast", 512)


def conch_other_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    """What else is in its file: the projection for texts, the pool for captions, the text tower (the ends of it)."""
    yield "visual.proj_contrast", (512, 512)
    yield "visual.attn_pool_caption.query", (256, 768)
    yield "visual.attn_pool_caption.attn.in_proj_weight", (2304, 768)
    yield "visual.attn_pool_caption.attn.in_proj_bias", (2304,)
    yield from _affine("visual.attn_pool_caption.attn.out_proj", 768, 768)
    yield from _norm("visual.attn_pool_caption.ln_q", 768)
    yield from _norm("visual.attn_pool_caption.ln_k", 768)
    yield from _norm("visual.ln_caption", 768)
    yield "text.positional_embedding", (128, 768)
    yield "text.cls_emb", (768,)
    yield "text.token_embedding.weight", (32007, 768)
    yield "text.transformer.resblocks.0.attn.in_proj_weight", (2304, 768)
    yield from _norm("text.ln_final", 768)
    yield "text.text_projection", (768, 512)
    yield "logit_scale", ()


def conch_vectors(state: State, images: torch.Tensor, depth: int) -> torch.Tensor:
    """encode_image(proj_contrast=False, normalize=True) as its code has it: (n, 3, 448, 448) -> (n, 512)."""
    trunk = {key.removeprefix("visual.trunk."): tensor for key, tensor in state.items()}
    pool = {key.removeprefix("visual.attn_pool_contrast."): tensor for key, tensor in state.items()}
    tokens = layer_norm(CONCH.tokens(trunk, images, depth), (768,), pool["ln_k.weight"], pool["ln_k.bias"])
    query = layer_norm(pool["query"], (512,), pool["ln_q.weight"], pool["ln_q.bias"])
    keys = tokens.transpose(0, 1)  # (tokens, n, 768)
    pooled, _ = multi_head_attention_forward(
        query[:, None].expand(-1, len(images), -1), keys, keys, embed_dim_to_check=512, num_heads=8,
        in_proj_weight=None, in_proj_bias=pool["attn.in_proj_bias"], bias_k=None, bias_v=None, add_zero_attn=False,
        dropout_p=0.0, out_proj_weight=pool["attn.out_proj.weight"], out_proj_bias=pool["attn.out_proj.bias"],
        training=False, use_separate_proj_weight=True, q_proj_weight=pool["attn.q_proj_weight"],
        k_proj_weight=pool["attn.k_proj_weight"], v_proj_weight=pool["attn.v_proj_weight"],
    )  # fmt: skip
    return normalize(
        layer_norm(pooled[0], (512,), state["visual.ln_contrast.weight"], state["visual.ln_contrast.bias"])
    )


UNSHOWN = [*VITS, "conch"]
BUILT = [name for name in UNSHOWN if name != "h-optimus-1"]  # the same architecture as h-optimus-0, below


def published_keys(name: str, depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the vector needs, in the file's own names."""
    return dict(conch_image_keys(depth) if name == "conch" else VITS[name].keys(depth))


def published_depth(name: str) -> int:
    return (CONCH if name == "conch" else VITS[name]).depth


def own_name(name: str, key: str) -> str:
    """The architecture's name of a file's key."""
    return key.removeprefix("visual.") if name == "conch" else key


def test_these_are_the_rows_that_nothing_else_holds():
    assert {name for name in NETWORKS if TABLE[name].parity is None} == set(UNSHOWN)
    first, second = (TABLE[name] for name in ("h-optimus-0", "h-optimus-1"))
    assert first.fingerprint("abc", "float32") == second.fingerprint("abc", "float32")
    assert first.checkpoint != second.checkpoint


@pytest.mark.parametrize("name", UNSHOWN)
def test_keys_and_shapes_are_those_of_the_published_configuration(name):
    expected = {own_name(name, key): shape for key, shape in published_keys(name, published_depth(name)).items()}
    state = on_meta(name).state_dict()
    found = {key.removeprefix("trunk.") if name != "conch" else key: tuple(t.shape) for key, t in state.items()}
    assert found == expected


def test_a_whole_conch_file_is_renamed_to_what_its_vector_needs():
    with torch.device("meta"):
        file = {key: torch.empty(shape) for key, shape in [*conch_image_keys(12), *conch_other_keys()]}
    found, origin = rename(LAYOUTS["conch"], file)
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == {
        key: tuple(tensor.shape) for key, tensor in on_meta("conch").state_dict().items()
    }
    assert origin == {own_name("conch", key): key for key, _ in conch_image_keys(12)}


def drawn_state(name: str, depth: int) -> State:
    """Numbers that keep activations near 1 and make every tensor count."""
    generator = torch.Generator().manual_seed(7)
    state = {}
    for key, shape in published_keys(name, depth).items():
        spread = 0.3 if len(shape) != 2 and len(shape) != 4 else torch.Size(shape[1:]).numel() ** -0.5
        middle = 1.0 if key.endswith("gamma") or re.search(r"(norm\d?|ln_\w+)\.weight$", key) else 0.0
        state[key] = middle + spread * torch.randn(shape, generator=generator)
    return state


def saved(name: str, state: State, path: Path) -> str:
    """As published: CONCH's with everything else that is in it, behind 'state_dict' and 'module.'."""
    if name == "conch":
        others = {key: torch.zeros(()).expand(shape) for key, shape in conch_other_keys()}
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in (others | state).items()}}, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", BUILT)
def test_vectors_are_those_of_the_published_computation(name, tmp_path):
    depth = 2 if name == "conch" else 1
    state = drawn_state(name, depth)
    file = tmp_path / "w.bin"
    encoder = build(resolve(f"{name},depth={depth}", weights=saved(name, state, file)))
    file.unlink()  # up to 130 MB
    pixels = np.random.default_rng(3).integers(0, 256, (2, *encoder.spec.geometry.shape), np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(encoder.spec.mean).view(3, 1, 1)) / torch.tensor(encoder.spec.std).view(3, 1, 1)
    with torch.inference_mode():
        if name == "conch":
            expected = conch_vectors(state, images, depth)
        else:
            tokens = VITS[name].tokens(state, images, depth)
            expected = tokens[:, 0]
            if encoder.spec.output == "cls_mean":
                expected = torch.cat([expected, tokens[:, 1 + VITS[name].registers :].mean(1)], dim=1)
    found, wanted = encoder.encode(pixels), expected.numpy()
    assert found.shape == (2, TABLE[name].dim)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-5)
    assert np.abs(wanted[0] - wanted[1]).max() / scale > 1e-2  # the images are told apart


def flat_state(name: str) -> State:
    """One block, each tensor one number stretched to its shape: a file of a few kB."""
    return {key: torch.tensor(0.01).expand(shape) for key, shape in published_keys(name, 1).items()}


BREAKS = {  # row's kind: key that goes missing, key whose shape is wrong
    "conch": ("visual.ln_contrast.weight", "visual.attn_pool_contrast.query"),
    "vit": ("blocks.0.ls1.gamma", "blocks.0.mlp.fc2.weight"),
}


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("how", ["missing", "extra", "shape"])
def test_a_published_file_that_does_not_fit_is_refused_by_name(name, how, tmp_path):
    state = flat_state(name)
    gone, bent = BREAKS["conch" if name == "conch" else "vit"]
    surplus = "visual.surplus.weight" if name == "conch" else "surplus.weight"
    if how == "missing":
        del state[gone]
        message = rf"the file lacks key '{own_name(name, gone)}' \(1 such keys\)"
    elif how == "extra":
        state[surplus] = torch.zeros(3)
        message = rf"the file has the unexpected key '{surplus}' \(1 such keys\)"
    else:
        shape = state[bent].shape
        state[bent] = torch.zeros(()).expand(shape[0] + 1, *shape[1:])
        message = rf"'{bent}' is {re.escape(str([shape[0] + 1, *shape[1:]]))}; expected {re.escape(str([*shape]))}"
    file = saved(name, state, tmp_path / "w.bin")
    with pytest.raises(UserError, match=message) as caught:
        build(resolve(f"{name},depth=1", weights=file))
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
