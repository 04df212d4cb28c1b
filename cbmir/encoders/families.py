"""Every model of timm, open_clip and torchvision as a spec, from what the library says of it."""

from __future__ import annotations

import math
from collections.abc import Callable

from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError, nearest
from cbmir.images.geometry import Geometry

FAMILY_HELP: dict[str, str] = {
    "timm:<model>": "any model of timm, pooled features; e.g. timm:mobilenetv2_100, timm:vit_base_patch16_224.mae",
    "open_clip:<model>/<pretrained>": "any model of open_clip, projected image features; e.g. open_clip:ViT-B-32/openai",
    "torchvision:<model>": "any model of torchvision, pooled features; e.g. torchvision:squeezenet1_0",
    "<file>.toml": "an encoder of your own, described in a file: docs/encoders.md",
}


def _timm(model: str, size: int | None) -> EncoderSpec:
    import timm
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg, is_model

    architecture = model.partition(".")[0]
    if not is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise UserError(f"timm has no model '{architecture}'; {near or 'see timm.list_models()'}")
    try:
        config = get_pretrained_cfg(model)
    except RuntimeError:
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        raise UserError(f"timm has no weights '{model}'; it has: {', '.join(tags) or 'none for it'}") from None
    data = resolve_data_config(pretrained_cfg=config.to_dict(), verbose=False)
    mode = {"squash": "squash", "border": "long_side"}.get(data["crop_mode"], "short_side")
    fill = tuple(round(255 * m) for m in data["mean"]) if mode == "long_side" else 0
    asked = size or data["input_size"][-1]
    geometry = Geometry(
        size=asked,
        mode=mode,
        resize=math.floor(asked / data["crop_pct"]),
        interpolation=data["interpolation"],
        fill=fill,
    )
    return EncoderSpec(
        name=f"timm:{model}",
        source="timm",
        model=model,
        geometry=geometry,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        output="pooled",
        checkpoint=_timm_checkpoint(config),
        license=config.license,
        summary=f"timm {architecture}, pooled features before the classifier",
        citation="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861",
    )


def _timm_checkpoint(config) -> str | None:
    """Where timm itself would look: its hub repository, else the authors' own place."""
    if config.hf_hub_id and config.custom_load != "hf":
        files = config.hf_hub_filename or "model.safetensors|pytorch_model.bin"
        return f"hf://{config.hf_hub_id.rstrip('/')}@main/{files}"
    return config.url or None


def _open_clip(model: str, size: int | None) -> EncoderSpec:
    import open_clip

    architecture, _, tag = model.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        near = nearest(architecture, open_clip.list_models())
        raise UserError(f"open_clip has no model '{architecture}'; {near or 'see open_clip.list_models()'}")
    published = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and not published:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UserError(f"open_clip has no weights '{tag}' of {architecture}; it has: {', '.join(tags)}")
    native = config["vision_cfg"].get("image_size", 224)
    native = native[0] if isinstance(native, (list, tuple)) else native
    # open_clip itself only warns where weights and configuration differ in this, and the vectors are then wrong
    quick = published.get("quick_gelu", False) and not config.get("quick_gelu", False)
    mode = {"shortest": "short_side", "longest": "long_side", "squash": "squash"}[
        published.get("resize_mode", "shortest")
    ]
    return EncoderSpec(
        name=f"open_clip:{model}",
        source="open_clip",
        model=architecture,
        geometry=Geometry(size=size or native, mode=mode, interpolation=published.get("interpolation", "bicubic")),
        mean=tuple(published.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(published.get("std", open_clip.OPENAI_DATASET_STD)),
        output="projected",
        options={"quick_gelu": True} if quick else {},
        checkpoint=_open_clip_checkpoint(published),
        layout="open_clip",
        summary=f"open_clip {architecture}, image features after the projection",
        citation="Ilharco et al., OpenCLIP, doi:10.5281/zenodo.5143773",
    )


def _open_clip_checkpoint(published: dict) -> str | None:
    hub = published.get("hf_hub", "").rstrip("/")
    if hub.count("/") >= 2:  # owner/name/file
        owner, name, file = hub.split("/", 2)
        return f"hf://{owner}/{name}@main/{file}"
    if hub:
        return f"hf://{hub}@main/open_clip_model.safetensors|open_clip_pytorch_model.bin"
    return published.get("url") or None


def _torchvision(model: str, size: int | None) -> EncoderSpec:
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(model).DEFAULT
        data = weights.transforms()
        square = (data.crop_size, data.resize_size, data.interpolation.value)  # what classifiers have
    except (ValueError, AttributeError, TypeError):
        near = nearest(model, torchvision.models.list_models(module=torchvision.models))
        raise UserError(
            f"torchvision has no classifier '{model}'; {near or 'see torchvision.models.list_models()'}"
        ) from None
    native, resize, interpolation = square[0][0], square[1][0], square[2]
    asked = size or native
    return EncoderSpec(
        name=f"torchvision:{model}",
        source="torchvision",
        model=model,
        geometry=Geometry(
            size=asked, mode="short_side", resize=math.floor(asked * resize / native), interpolation=interpolation
        ),
        mean=tuple(data.mean),
        std=tuple(data.std),
        output="pooled",
        checkpoint=weights.url,
        summary=f"torchvision {model}, pooled features before the classifier",
        citation="TorchVision, doi:10.1145/1873951.1874254",
    )


FAMILIES: dict[str, Callable[[str, int | None], EncoderSpec]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "torchvision": _torchvision,
}
