"""The encoders by name: one row each, and two families that stand for every model of their library."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from cbmir.encoders.spec import EncoderSpec, ParsedName, parse_name
from cbmir.errors import UserError, nearest
from cbmir.images.geometry import Geometry

ENCODERS: dict[str, EncoderSpec] = {
    "pixels32": EncoderSpec(
        name="pixels32",
        source="pixels",
        model="thumbnail",
        geometry=Geometry(size=32, mode="squash", interpolation="bicubic", grey=True),
        mean=(0.0,),
        std=(1.0,),
        output="thumbnail",
        license="Apache-2.0",
        summary="a 32x32 grey thumbnail as vector; no weights; the baseline that every learned encoder must beat",
        citation="Torralba, Fergus, Freeman, 80 million tiny images, TPAMI 2008 (retrieval by thumbnails)",
    ),
}

FAMILIES: dict[str, str] = {
    "timm:<model>": "any model of timm, pooled features; e.g. timm:mobilenetv2_100, timm:vit_base_patch16_224.mae",
    "open_clip:<model>/<pretrained>": "any model of open_clip, projected image features; e.g. open_clip:ViT-B-32/openai",
}


def resolve(
    name: str, *, image_size: int | None = None, weights: str | None = None, random_seed: int | None = None
) -> EncoderSpec:
    """The spec of an encoder's name; flags of the command fill in what the name itself leaves open.

    Raises UserError for unknown names (with the nearest), and for weights given to an encoder that has none.
    """
    parsed = parse_name(name)
    parsed = replace(
        parsed,
        size=parsed.size or image_size,
        random_seed=parsed.random_seed if parsed.random_seed is not None else None if weights else random_seed,
    )
    if parsed.random_seed is not None and weights:
        raise UserError(f"encoder {name}: both weights from a file and random weights; expected one of them")
    spec = _base(parsed)
    if not spec.needs_weights:
        if weights or (parsed.random_seed is not None and "~" in name):
            raise UserError(f"encoder {parsed.base} has no weights; leave --weights and ~random away for it")
        parsed = replace(parsed, random_seed=None, size=None if parsed.size == spec.geometry.size else parsed.size)
        spec = _sized(spec, parsed.size)
    return replace(spec, name=parsed.canonical, weights_file=weights, random_seed=parsed.random_seed)


def _base(parsed: ParsedName) -> EncoderSpec:
    family, colon, model = parsed.base.partition(":")
    if colon and family in _FAMILY_SPECS:
        return _FAMILY_SPECS[family](model, parsed)
    if parsed.base in ENCODERS:
        if parsed.options:
            raise UserError(f"encoder {parsed.base} takes no options; found {', '.join(parsed.options)}")
        return ENCODERS[parsed.base]
    near = nearest(parsed.base, [*ENCODERS, *FAMILIES]) or f"expected one of: {', '.join([*ENCODERS, *FAMILIES])}"
    raise UserError(f"unknown encoder '{parsed.base}'; {near}; see cbmir encoders")


def _sized(spec: EncoderSpec, size: int | None) -> EncoderSpec:
    """The same encoder at another input size; the crop keeps its share of the resized image."""
    old = spec.geometry
    if size is None or size == old.size:
        return spec
    resize = math.floor(size * old.resize / old.size) if old.resize else None
    return replace(spec, geometry=replace(old, size=size, resize=resize))


def _timm_spec(model: str, parsed: ParsedName) -> EncoderSpec:
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
    size = data["input_size"][-1]
    mode = {"squash": "squash", "border": "long_side"}.get(data["crop_mode"], "short_side")
    fill = tuple(round(255 * m) for m in data["mean"]) if mode == "long_side" else 0
    asked = parsed.size or size
    geometry = Geometry(
        size=asked,
        mode=mode,
        resize=math.floor(asked / data["crop_pct"]),
        interpolation=data["interpolation"],
        fill=fill,
    )
    return EncoderSpec(
        name=parsed.canonical,
        source="timm",
        model=model,
        geometry=geometry,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        output="pooled",
        pretrained=config.tag,
        options=dict(parsed.options) | ({"img_size": asked} if config.fixed_input_size and asked != size else {}),
        license=config.license,
        hub_id=config.hf_hub_id if config.hf_hub_id else config.url or None,
        summary=f"timm {architecture}, pooled features before the classifier",
        citation="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861",
    )


def _open_clip_spec(model: str, parsed: ParsedName) -> EncoderSpec:
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
    size = parsed.size or native
    options = dict(parsed.options)
    if published.get("quick_gelu", False) and not config.get("quick_gelu", False):
        options["force_quick_gelu"] = True  # open_clip itself only warns, and the vectors are then wrong
    if size != native:
        options["force_image_size"] = size
    mode = {"shortest": "short_side", "longest": "long_side", "squash": "squash"}[
        published.get("resize_mode", "shortest")
    ]
    return EncoderSpec(
        name=parsed.canonical,
        source="open_clip",
        model=architecture,
        geometry=Geometry(size=size, mode=mode, interpolation=published.get("interpolation", "bicubic")),
        mean=tuple(published.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(published.get("std", open_clip.OPENAI_DATASET_STD)),
        output="projected",
        pretrained=tag or None,
        options=options,
        hub_id=published.get("hf_hub") or published.get("url") or None,
        summary=f"open_clip {architecture}, image features after the projection",
        citation="Ilharco et al., OpenCLIP, doi:10.5281/zenodo.5143773",
    )


_FAMILY_SPECS: dict[str, Callable[[str, ParsedName], EncoderSpec]] = {
    "timm": _timm_spec,
    "open_clip": _open_clip_spec,
}
