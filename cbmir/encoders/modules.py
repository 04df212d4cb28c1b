"""EncoderSpec -> torch module, with its weights loaded strictly: a missing or extra key stops."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.weights import explain_load_error, read_keys, require_available
from cbmir.errors import UserError


def load(spec: EncoderSpec) -> torch.nn.Module:
    """A module that maps normalised (n, 3, size, size) float32 to (n, dim)."""
    if not spec.is_random:
        require_available(spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the libraries
            return _LOADERS[spec.source](spec)
    except UserError:
        raise
    except (TypeError, AssertionError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"cannot build {spec.name}: {first}; check its options and --image-size") from error
    except Exception as error:  # each library and file format has its own; all mean that the weights did not load
        raise explain_load_error(error, spec) from error


def _timm(spec: EncoderSpec) -> torch.nn.Module:
    import timm

    if spec.is_random:
        with _seeded(spec.random_seed):
            return timm.create_model(spec.model, pretrained=False, num_classes=0, **spec.options)
    # Built with the file's own classifier, which is then removed: timm loads strictly only if the classes agree.
    config = timm.get_pretrained_cfg(spec.model)
    classes, overlay = config.num_classes, {}
    if spec.weights_file:
        classes = _classes_in_file(spec.weights_file, config.classifier)
        overlay = {"file": spec.weights_file, "num_classes": classes, "custom_load": False}
    module = timm.create_model(
        spec.model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **spec.options
    )
    module.reset_classifier(0)
    return module


def _classes_in_file(path: str, classifier: str | tuple[str, ...] | None) -> int:
    """Rows of the classifier in a weights file; 0 where it has none."""
    name = classifier[0] if isinstance(classifier, (tuple, list)) else classifier
    shape = read_keys(path).get(f"{name}.weight")
    return shape[0] if shape else 0


class _ImageTower(torch.nn.Module):
    """The image half of a CLIP: (n, 3, size, size) -> (n, dim) before normalisation."""

    def __init__(self, visual: torch.nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.visual(images)
        return features[0] if isinstance(features, tuple) else features  # CoCa returns (pooled, tokens)


def _open_clip(spec: EncoderSpec) -> torch.nn.Module:
    import open_clip

    pretrained = None if spec.is_random else spec.weights_file or spec.pretrained
    with _seeded(spec.random_seed or 0):
        model = open_clip.create_model(
            spec.model, pretrained=pretrained, require_pretrained=not spec.is_random, weights_only=True, **spec.options
        )
    return _ImageTower(model.visual)


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


_LOADERS: dict[str, Callable[[EncoderSpec], torch.nn.Module]] = {"timm": _timm, "open_clip": _open_clip}
