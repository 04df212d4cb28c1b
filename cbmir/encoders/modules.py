"""EncoderSpec -> torch module, with its weights loaded strictly: a missing or extra key stops."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cbmir.encoders.attention import straighten
from cbmir.encoders.fetch import Weights
from cbmir.encoders.fit import fit, moved
from cbmir.encoders.layouts import LAYOUTS
from cbmir.encoders.load_errors import explain
from cbmir.encoders.outputs import MaskedEncoder, TimmEncoder
from cbmir.encoders.sizes import refuse_remainder
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.state import State, misfit, read_state
from cbmir.errors import UserError


def load(spec: EncoderSpec, weights: Weights | None) -> torch.nn.Module:
    """A module that maps normalised (n, 3, size, size) float32 to (n, dim); without weights, drawn from the spec's seed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the libraries
            module = SOURCES[spec.source](spec, read_state(weights.path) if weights else None)
            straighten(module)
            return module
    except UserError:
        raise
    except (TypeError, AssertionError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"cannot build {spec.name}: {first}; check its options and --image-size") from error
    except Exception as error:  # each library and file format has its own; all mean that the weights did not load
        raise explain(error, spec) from error


# --- timm ------------------------------------------------------------------------------------------------------------


def _timm(spec: EncoderSpec, state: State | None) -> torch.nn.Module:
    import timm

    architecture = spec.model.partition(".")[0]
    classes = timm.get_pretrained_cfg(architecture).num_classes if spec.output == "logits" else 0
    build = partial(timm.create_model, **_timm_arguments(spec))
    if state is not None and spec.layout == "own":
        return TimmEncoder(_timm_own(spec, state, build, classes), spec.output)
    with _seeded(spec.random_seed or 0):
        trunk = build(architecture, pretrained=False, num_classes=classes)
        if spec.output == "map_mean" and hasattr(trunk, "pre_logits"):
            trunk.pre_logits = (
                torch.nn.Identity()
            )  # VGG's two wide layers behind the map: 120 M numbers that nobody looks at
        projection = None
        if spec.output == "projected":
            projection = torch.nn.Linear(trunk.num_features, spec.dim, bias=False)
    if state is not None:
        target = _Parts(trunk, projection)
        layout = LAYOUTS[spec.layout]
        if spec.output != "logits":
            layout = _without_classifier(layout, architecture)
        fit(target, state, layout, origin=spec.origin, model=spec.model, extra=_extra(trunk))
    return (
        MaskedEncoder(trunk) if spec.output == "masked_cls" else TimmEncoder(trunk, spec.output, projection=projection)
    )


def _timm_own(spec: EncoderSpec, state: State, build: Callable, classes: int) -> torch.nn.Module:
    """timm's own names, and those that its filters know. Built with the file's own classifier, which is then removed: timm
    loads strictly only if the classes agree."""
    import timm

    config = timm.get_pretrained_cfg(spec.model)
    found = _classes(state, config.classifier)
    if classes and found != classes:
        raise misfit(
            spec.origin, spec.model, f"its classifier has {found} classes; expected {classes}; check --weights"
        )
    if spec.model.startswith("samvit"):  # timm's filter leaves its positions as they are
        with torch.device("meta"):
            state = moved(state, build(spec.model, pretrained=False, num_classes=found), LAYOUTS["own"])
    overlay = {"state_dict": state, "num_classes": found, "custom_load": False}
    module = build(spec.model, pretrained=True, num_classes=found, pretrained_cfg_overlay=overlay)
    _refuse_other_patches(spec, state, module)
    if not classes:
        module.reset_classifier(0)
    return module


def _timm_arguments(spec: EncoderSpec) -> dict[str, Any]:
    """Keyword arguments of the architecture: options as TOML can write them, and the size where it is fixed."""
    import timm

    arguments = dict(spec.options)
    for name in ("mlp_layer", "act_layer"):
        if isinstance(arguments.get(name), str) and not arguments[name].islower():
            arguments[name] = getattr(timm.layers, arguments[name], None) or getattr(torch.nn, arguments[name])
    if "norm_eps" in arguments:
        arguments["norm_layer"] = partial(torch.nn.LayerNorm, eps=arguments.pop("norm_eps"))
    config = timm.get_pretrained_cfg(spec.model.partition(".")[0])
    if config.fixed_input_size and spec.geometry.size != config.input_size[-1]:
        arguments["img_size"] = spec.geometry.size
    return arguments


def _extra(trunk: torch.nn.Module) -> int:
    """Rows of the position table that belong to no patch."""
    return 0 if getattr(trunk, "no_embed_class", False) else getattr(trunk, "num_prefix_tokens", 0)


def _classes(state: State, classifier: str | tuple[str, ...] | None) -> int:
    """Rows of the classifier in a file; 0 where it has none."""
    name = classifier[0] if isinstance(classifier, (tuple, list)) else classifier
    tensor = state.get(f"{name}.weight")
    return 0 if tensor is None else tensor.shape[0]


def _without_classifier(layout, architecture: str):
    """The layout, with the classifier among what the vector does not need."""
    from dataclasses import replace

    import timm

    names = timm.get_pretrained_cfg(architecture).classifier
    names = names if isinstance(names, (tuple, list)) else [names]
    return replace(layout, unused=(*layout.unused, *(rf"{name}\.(weight|bias)" for name in names if name)))


def _refuse_other_patches(spec: EncoderSpec, state: State, module: torch.nn.Module) -> None:
    """timm's filters stretch patches of another size in silence; that is another architecture."""
    name = "patch_embed.proj.weight"
    wanted = module.state_dict().get(name)
    if wanted is not None and name in state and state[name].ndim == 4 and state[name].shape != wanted.shape:
        raise misfit(
            spec.origin,
            spec.model,
            f"'{name}' is {list(state[name].shape)}; expected {list(wanted.shape)}; check --weights and --encoder",
        )


class _Parts(torch.nn.Module):
    """A trunk under its own names, with a projection beside it, as one state."""

    def __init__(self, trunk: torch.nn.Module, projection: torch.nn.Module | None) -> None:
        super().__init__()
        for name, child in trunk.named_children():
            self.add_module(name, child)
        for name, parameter in trunk.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in trunk.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=name not in trunk._non_persistent_buffers_set)
        if projection is not None:
            self.projection = projection


# --- open_clip -------------------------------------------------------------------------------------------------------


class _ImageTower(torch.nn.Module):
    """The image half of a CLIP: (n, 3, size, size) -> (n, dim) before normalisation."""

    def __init__(self, visual: torch.nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.visual(images)
        return features[0] if isinstance(features, tuple) else features  # CoCa returns (pooled, tokens)


def _open_clip(spec: EncoderSpec, state: State | None) -> torch.nn.Module:
    """Only the image half is built and loaded: a text half can be larger, and can need packages of its own."""
    import open_clip
    from open_clip.model import _build_vision_tower

    options = dict(spec.options)
    config = open_clip.get_model_config(spec.model)
    vision = config["vision_cfg"] | {"image_size": spec.geometry.size, "timm_model_pretrained": False}
    quick = options.pop("quick_gelu", config.get("quick_gelu", False))
    with _seeded(spec.random_seed or 0):
        tower = _ImageTower(_build_vision_tower(config["embed_dim"], vision | options, quick))
        _resize_tower(tower, spec)
    if state is not None:
        trunk = getattr(tower.visual, "trunk", None)
        fit(
            tower,
            state,
            LAYOUTS["open_clip" if spec.layout == "own" else spec.layout],
            origin=spec.origin,
            model=spec.model,
            extra=1 if trunk is None else _extra(trunk),
        )
    return tower


def _resize_tower(tower: torch.nn.Module, spec: EncoderSpec) -> None:
    """open_clip builds timm's towers at their own size, whatever it is told."""
    trunk = getattr(tower.visual, "trunk", None)
    patches = getattr(trunk, "patch_embed", None)
    size = (spec.geometry.size, spec.geometry.size)
    if patches is None or getattr(patches, "img_size", size) == size:
        return
    refuse_remainder(spec.name, spec.geometry.size, tower)
    if not hasattr(trunk, "set_input_size"):
        raise UserError(f"{spec.name} takes images of {patches.img_size[0]} pixels only; leave --image-size away")
    trunk.set_input_size(img_size=size)


# --- torchvision -----------------------------------------------------------------------------------------------------


class _FeatureMap(torch.nn.Module):
    """A torchvision network's convolutions: (n, 3, size, size) -> mean of the last map, (n, dim)."""

    def __init__(self, features: torch.nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images).mean((2, 3))


def _torchvision(spec: EncoderSpec, state: State | None) -> torch.nn.Module:
    from torchvision.models import get_model

    with _seeded(spec.random_seed or 0):
        model = get_model(spec.model, weights=None, **spec.options)
    if state is not None:
        fit(model, state, LAYOUTS[spec.layout], origin=spec.origin, model=spec.model)
    if spec.output == "logits":
        return model
    if spec.output == "map_mean" or not _without_last_layer(model):
        if not hasattr(model, "features") or hasattr(model, "permute"):  # Swin's map has its channels last
            raise UserError(
                f"torchvision's {spec.model} has no map of convolutions; expected output = 'pooled' or 'logits'"
            )
        return _FeatureMap(model.features)
    return model


def _without_last_layer(model: torch.nn.Module) -> bool:
    """Take the last linear layer away, so that the model gives what it classifies by; False where it has none (SqueezeNet)."""
    for name in ("fc", "head", "heads", "classifier"):
        last = getattr(model, name, None)
        if isinstance(last, torch.nn.Linear):
            setattr(model, name, torch.nn.Identity())
            return True
        if isinstance(last, torch.nn.Sequential) and isinstance(last[-1], torch.nn.Linear):
            last[-1] = torch.nn.Identity()
            return True
    return False


# --- CONCH -----------------------------------------------------------------------------------------------------------


def _conch(spec: EncoderSpec, state: State | None) -> torch.nn.Module:
    from cbmir.encoders.conch import Conch

    with _seeded(spec.random_seed or 0):
        module = Conch(size=spec.geometry.size, **spec.options)
    if state is not None:
        fit(module, state, LAYOUTS[spec.layout], origin=spec.origin, model=spec.model)
    return module


class _seeded:
    """Random weights from a seed, the caller's own random state left as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.fork = torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *exception) -> None:
        self.fork.__exit__(*exception)


SOURCES: dict[str, Callable[[EncoderSpec, State | None], torch.nn.Module]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "torchvision": _torchvision,
    "conch": _conch,
}
