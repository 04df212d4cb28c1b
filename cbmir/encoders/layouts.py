"""Key layouts: under which names a published file holds what an architecture calls otherwise.

A layout is data: rules (regular expression -> new name, the first that matches), and which keys the vector does not
need. A new name that ends in '#0', '#1', ... is a part; parts are joined along the first axis, in that order. What no
rule names stays as it is, and so is found by the strict comparison in `fit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the table of encoders is shown without torch
    import torch

State = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Layout:
    """How a file's keys become an architecture's.

    rules       (regular expression, new name)
    unused      keys that may be there and that the vector does not need
    splits      (regular expression of a new name, names of its thirds): query, key and value that lie in one tensor
    transposed  new names of matrices that are stored the other way round
    antialias   how its library brings positions to another size (cbmir/encoders/positions.py)
    """

    rules: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    splits: tuple[tuple[str, tuple[str, str, str]], ...] = ()
    transposed: tuple[str, ...] = ()
    antialias: bool = False


def rename(layout: Layout, state: State) -> tuple[State, dict[str, str]]:
    """A file's tensors under the architecture's names, and from each name back to the file's first key."""
    import torch

    found: State = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    origin: dict[str, str] = {}
    rules = [(re.compile(pattern), new) for pattern, new in layout.rules]
    for key, tensor in state.items():
        if any(re.fullmatch(pattern, key) for pattern in layout.unused):
            continue
        name = next((match.expand(new) for rule, new in rules if (match := rule.fullmatch(key))), key)
        for whole, piece in _parts(layout, name, tensor).items():
            new, _, part = whole.partition("#")
            if any(re.fullmatch(pattern, new) for pattern in layout.unused):
                continue
            piece = piece.T.contiguous() if new in layout.transposed else piece
            if new in found or (part and int(part) in parts.get(new, {})):
                raise ValueError(f"'{origin[new]}' and '{key}' are the same tensor, '{new}'; expected one of them")
            origin.setdefault(new, key)
            if part:
                parts.setdefault(new, {})[int(part)] = piece
            else:
                found[new] = piece
    for name, pieces in parts.items():
        if len({tuple(piece.shape[1:]) for piece in pieces.values()}) == 1:
            found[name] = torch.cat([pieces[i] for i in sorted(pieces)])
        else:
            found[name] = next(iter(pieces.values()))  # does not fit: the comparison says so
    return found, origin


def _parts(layout: Layout, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """One renamed tensor, or its thirds."""
    for pattern, names in layout.splits:
        match = re.fullmatch(pattern, name)
        if match and tensor.ndim and tensor.shape[0] % 3 == 0:
            return {match.expand(new): third for new, third in zip(names, tensor.chunk(3), strict=True)}
    return {name: tensor}


_VIT = r"(?:(?:vit|dinov2|model|backbone|encoder)\.)?"
_WB = r"(weight|bias)"
_QKV = tuple((which, i) for i, which in enumerate(("query", "key", "value")))
_SIG = r"(?:vision_model\.)?"
_SAM = r"vision_encoder\."
_SWIN = r"(?:vision_model\.model\.|swin\.)?"
_RES = r"vision_model\.encoder\.layers\.(\d+)\."
_CLIP_TEXT = (
    r"text\..*", r"text_decoder\..*", r"transformer\..*", r"token_embedding\.weight", r"ln_final\..*",
    r"positional_embedding", r"text_projection", r"logit_scale", r"logit_bias", r"attn_mask",
)  # fmt: skip

_hf_vit_head = (
    (rf"{_VIT}embeddings\.cls_token", "cls_token"),
    (rf"{_VIT}embeddings\.position_embeddings", "pos_embed"),
    (rf"{_VIT}embeddings\.patch_embeddings\.projection\.{_WB}", r"patch_embed.proj.\1"),
    *(
        (rf"{_VIT}encoder\.layer\.(\d+)\.attention\.attention\.{which}\.{_WB}", rf"blocks.\1.attn.qkv.\2#{i}")
        for which, i in _QKV
    ),
    (rf"{_VIT}encoder\.layer\.(\d+)\.attention\.output\.dense\.{_WB}", r"blocks.\1.attn.proj.\2"),
    (rf"{_VIT}layernorm\.{_WB}", r"norm.\1"),
)

LAYOUTS: dict[str, Layout] = {
    # the architecture's own names; positions as timm and open_clip move them
    "own": Layout(antialias=True),
    # transformers.ViTModel and ViTMAE*: the MAE's decoder is there for training
    "hf_vit": Layout(
        rules=(
            *_hf_vit_head,
            (rf"{_VIT}encoder\.layer\.(\d+)\.layernorm_before\.{_WB}", r"blocks.\1.norm1.\2"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.layernorm_after\.{_WB}", r"blocks.\1.norm2.\2"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.intermediate\.dense\.{_WB}", r"blocks.\1.mlp.fc1.\2"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.output\.dense\.{_WB}", r"blocks.\1.mlp.fc2.\2"),
        ),
        unused=(r"(vit\.)?pooler\..*", r"decoder\..*", r"classifier\..*"),
    ),
    # transformers.Dinov2Model and Dinov2WithRegistersModel
    "hf_dinov2": Layout(
        rules=(
            *_hf_vit_head,
            (rf"{_VIT}embeddings\.register_tokens", "reg_token"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.(norm1|norm2|mlp\.fc1|mlp\.fc2)\.{_WB}", r"blocks.\1.\2.\3"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.mlp\.weights_in\.{_WB}", r"blocks.\1.mlp.fc1.\2"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.mlp\.weights_out\.{_WB}", r"blocks.\1.mlp.fc2.\2"),
            (rf"{_VIT}encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        ),
        unused=(r"(dinov2\.)?embeddings\.mask_token", r"classifier\..*"),
    ),
    # facebookresearch/dinov2's own names: timm's, but for the mask token of training
    "dinov2": Layout(rules=((r"register_tokens", "reg_token"),), unused=(r"mask_token",)),
    # transformers.DINOv3ViTModel
    "hf_dinov3": Layout(
        rules=(
            (r"embeddings\.cls_token", "cls_token"),
            (r"embeddings\.register_tokens", "reg_token"),
            (rf"embeddings\.patch_embeddings\.{_WB}", r"patch_embed.proj.\1"),
            *((rf"layer\.(\d+)\.attention\.{w}_proj\.weight", rf"blocks.\1.attn.qkv.weight#{i}") for i, w in enumerate("qkv")),
            (rf"layer\.(\d+)\.attention\.o_proj\.{_WB}", r"blocks.\1.attn.proj.\2"),
            (rf"layer\.(\d+)\.(norm1|norm2)\.{_WB}", r"blocks.\1.\2.\3"),
            (rf"layer\.(\d+)\.mlp\.up_proj\.{_WB}", r"blocks.\1.mlp.fc1.\2"),
            (rf"layer\.(\d+)\.mlp\.down_proj\.{_WB}", r"blocks.\1.mlp.fc2.\2"),
            (r"layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.gamma_\2"),
        ),
        unused=(r"embeddings\.mask_token",),
    ),
    # transformers.SiglipVisionModel, and the vision half of SiglipModel
    "hf_siglip": Layout(
        rules=(
            (rf"{_SIG}embeddings\.patch_embedding\.{_WB}", r"patch_embed.proj.\1"),
            (rf"{_SIG}embeddings\.position_embedding\.weight", "pos_embed"),
            *(
                (rf"{_SIG}encoder\.layers\.(\d+)\.self_attn\.{w}_proj\.{_WB}", rf"blocks.\1.attn.qkv.\2#{i}")
                for i, w in enumerate("qkv")
            ),
            (rf"{_SIG}encoder\.layers\.(\d+)\.self_attn\.out_proj\.{_WB}", r"blocks.\1.attn.proj.\2"),
            (rf"{_SIG}encoder\.layers\.(\d+)\.layer_norm([12])\.{_WB}", r"blocks.\1.norm\2.\3"),
            (rf"{_SIG}encoder\.layers\.(\d+)\.mlp\.fc([12])\.{_WB}", r"blocks.\1.mlp.fc\2.\3"),
            (rf"{_SIG}post_layernorm\.{_WB}", r"norm.\1"),
            (rf"{_SIG}head\.probe", "attn_pool.latent"),
            (rf"{_SIG}head\.attention\.in_proj_{_WB}", r"attn_pool.in_proj.\1"),  # timm has the query apart
            (rf"{_SIG}head\.attention\.out_proj\.{_WB}", r"attn_pool.proj.\1"),
            (rf"{_SIG}head\.layernorm\.{_WB}", r"attn_pool.norm.\1"),
            (rf"{_SIG}head\.mlp\.fc([12])\.{_WB}", r"attn_pool.mlp.fc\1.\2"),
        ),
        unused=(r"text_model\..*", "logit_scale", "logit_bias", r".*\.position_ids"),
        splits=((rf"attn_pool\.in_proj\.{_WB}", (r"attn_pool.q.\1", r"attn_pool.kv.\1#0", r"attn_pool.kv.\1#1")),),
    ),
    # transformers.SamModel's image encoder
    "hf_sam": Layout(
        rules=(
            (rf"{_SAM}pos_embed", "pos_embed"),
            (rf"{_SAM}patch_embed\.projection\.{_WB}", r"patch_embed.proj.\1"),
            (rf"{_SAM}layers\.(\d+)\.attn\.(.*)", r"blocks.\1.attn.\2"),
            (rf"{_SAM}layers\.(\d+)\.layer_norm([12])\.{_WB}", r"blocks.\1.norm\2.\3"),
            (rf"{_SAM}layers\.(\d+)\.mlp\.lin([12])\.{_WB}", r"blocks.\1.mlp.fc\2.\3"),
            (rf"{_SAM}neck\.conv1\.weight", "neck.0.weight"),
            (rf"{_SAM}neck\.layer_norm1\.{_WB}", r"neck.1.\1"),
            (rf"{_SAM}neck\.conv2\.weight", "neck.2.weight"),
            (rf"{_SAM}neck\.layer_norm2\.{_WB}", r"neck.3.\1"),
        ),
        unused=(r"prompt_encoder\..*", r"mask_decoder\..*", r"shared_image_embedding\..*"),
    ),
    # segment_anything's own names, which MedSAM keeps
    "sam": Layout(
        rules=(
            (rf"image_encoder\.blocks\.(\d+)\.mlp\.lin([12])\.{_WB}", r"blocks.\1.mlp.fc\2.\3"),
            (r"image_encoder\.(.*)", r"\1"),
        ),
        unused=(r"prompt_encoder\..*", r"mask_decoder\..*", r"pixel_mean", r"pixel_std"),
    ),
    # transformers.SwinModel; with MedCLIP's prefix, projection and text half
    "hf_swin": Layout(
        rules=(
            (rf"{_SWIN}embeddings\.patch_embeddings\.projection\.{_WB}", r"patch_embed.proj.\1"),
            (rf"{_SWIN}embeddings\.norm\.{_WB}", r"patch_embed.norm.\1"),
            *(
                (
                    rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.{which}\.{_WB}",
                    rf"layers.\1.blocks.\2.attn.qkv.\3#{i}",
                )
                for which, i in _QKV
            ),
            (
                rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.relative_position_bias_table",
                r"layers.\1.blocks.\2.attn.relative_position_bias_table",
            ),
            (rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.output\.dense\.{_WB}", r"layers.\1.blocks.\2.attn.proj.\3"),
            (rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_before\.{_WB}", r"layers.\1.blocks.\2.norm1.\3"),
            (rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_after\.{_WB}", r"layers.\1.blocks.\2.norm2.\3"),
            (rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.intermediate\.dense\.{_WB}", r"layers.\1.blocks.\2.mlp.fc1.\3"),
            (rf"{_SWIN}encoder\.layers\.(\d+)\.blocks\.(\d+)\.output\.dense\.{_WB}", r"layers.\1.blocks.\2.mlp.fc2.\3"),
            # transformers shrinks at the end of a stage, timm at the start of the next
            *((rf"{_SWIN}encoder\.layers\.{i}\.downsample\.(.*)", rf"layers.{i + 1}.downsample.\1") for i in range(3)),
            (rf"{_SWIN}layernorm\.{_WB}", r"norm.\1"),
            (r"vision_model\.projection_head\.weight", "projection.weight"),
        ),
        unused=(r"text_model\..*", "logit_scale", r".*\.relative_position_index", r"(swin\.)?classifier\..*"),
    ),
    # transformers.ResNetForImageClassification
    "hf_resnet": Layout(
        rules=(
            (r"resnet\.embedder\.embedder\.convolution\.weight", "conv1.weight"),
            (r"resnet\.embedder\.embedder\.normalization\.(.*)", r"bn1.\1"),
            *(
                (rf"resnet\.encoder\.stages\.{s}\.layers\.(\d+)\.layer\.{c}\.{theirs}\.(.*)", rf"layer{s + 1}.\1.{ours}{c + 1}.\2")
                for s in range(4) for c in range(3) for theirs, ours in (("convolution", "conv"), ("normalization", "bn"))
            ),
            *(
                (rf"resnet\.encoder\.stages\.{s}\.layers\.(\d+)\.shortcut\.{theirs}\.(.*)", rf"layer{s + 1}.\1.downsample.{ours}.\2")
                for s in range(4) for theirs, ours in (("convolution", 0), ("normalization", 1))
            ),
            (rf"classifier\.1\.{_WB}", r"fc.\1"),
        ),
    ),
    # torchvision's VGG, of which only the convolutions are needed
    "tv_vgg": Layout(unused=(r"classifier\..*", r"pre_logits\..*", r"head\..*")),
    # torchvision's EfficientNetV2: stages without expansion, with fused expansion, and with depthwise convolution
    "tv_efficientnetv2": Layout(
        rules=(
            (r"features\.0\.0\.weight", "conv_stem.weight"),
            (r"features\.0\.1\.(.*)", r"bn1.\1"),
            (r"features\.1\.(\d+)\.block\.0\.0\.weight", r"blocks.0.\1.conv.weight"),
            (r"features\.1\.(\d+)\.block\.0\.1\.(.*)", r"blocks.0.\1.bn1.\2"),
            *(
                (rf"features\.{s}\.(\d+)\.block\.{b}\.{part}\.(.*)", rf"blocks.{s - 1}.\1.{name}.\2")
                for s in (2, 3) for b, part, name in ((0, 0, "conv_exp"), (0, 1, "bn1"), (1, 0, "conv_pwl"), (1, 1, "bn2"))
            ),
            *(
                (rf"features\.{s}\.(\d+)\.block\.{b}\.{part}\.(.*)", rf"blocks.{s - 1}.\1.{name}.\2")
                for s in range(4, 8)
                for b, part, name in (
                    (0, 0, "conv_pw"), (0, 1, "bn1"), (1, 0, "conv_dw"), (1, 1, "bn2"),
                    (2, "fc1", "se.conv_reduce"), (2, "fc2", "se.conv_expand"), (3, 0, "conv_pwl"), (3, 1, "bn3"),
                )
            ),
            (r"features\.8\.0\.weight", "conv_head.weight"),
            (r"features\.8\.1\.(.*)", r"bn2.\1"),
            (rf"classifier\.1\.{_WB}", r"classifier.\1"),
        ),
    ),
    # RadImageNet: torch.nn.Sequential over torchvision's ResNet-50 without its classifier
    "radimagenet_resnet": Layout(
        rules=(
            (r"backbone\.0\.(.*)", r"conv1.\1"),
            (r"backbone\.1\.(.*)", r"bn1.\1"),
            *((rf"backbone\.{i + 3}\.(.*)", rf"layer{i}.\1") for i in range(1, 5)),
        ),
    ),
    # torchvision's DenseNet as TorchXRayVision keeps it
    "xrv_densenet": Layout(unused=("op_threshs",)),
    # transformers.CLIPModel in open_clip's names; torch's Linear is the transpose of CLIP's own projection
    "hf_clip": Layout(
        rules=(
            (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
            (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
            (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
            (rf"vision_model\.pre_layrnorm\.{_WB}", r"visual.ln_pre.\1"),
            (rf"vision_model\.post_layernorm\.{_WB}", r"visual.ln_post.\1"),
            *(
                (rf"{_RES}self_attn\.{w}_proj\.{_WB}", rf"visual.transformer.resblocks.\1.attn.in_proj_\2#{i}")
                for i, w in enumerate("qkv")
            ),
            (rf"{_RES}self_attn\.out_proj\.{_WB}", r"visual.transformer.resblocks.\1.attn.out_proj.\2"),
            (rf"{_RES}layer_norm([12])\.{_WB}", r"visual.transformer.resblocks.\1.ln_\2.\3"),
            (rf"{_RES}mlp\.fc1\.{_WB}", r"visual.transformer.resblocks.\1.mlp.c_fc.\2"),
            (rf"{_RES}mlp\.fc2\.{_WB}", r"visual.transformer.resblocks.\1.mlp.c_proj.\2"),
            (r"visual_projection\.weight", "visual.proj"),
        ),
        unused=(r"text_model\..*", r"text_projection\.weight", "logit_scale", r".*\.position_ids"),
        transposed=("visual.proj",),
    ),
    # open_clip: the text half is not needed
    "open_clip": Layout(unused=_CLIP_TEXT, antialias=True),
    # open_clip around a timm image tower, with or without a projection
    "open_clip_timm": Layout(
        rules=((r"visual\.trunk\.(.*)", r"\1"), (r"visual\.head\.proj\.weight", "projection.weight")),
        unused=_CLIP_TEXT,
        antialias=True,
    ),
    # CONCH: two pools of which one makes the vector
    "conch": Layout(
        rules=((r"visual\.(.*)", r"\1"),),
        unused=(*_CLIP_TEXT, r"visual\.attn_pool_caption\..*", r"visual\.ln_caption\..*", r"visual\.proj_contrast"),
    ),
}  # fmt: skip
