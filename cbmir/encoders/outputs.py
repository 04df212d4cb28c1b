"""Which tensor of a timm model is the vector."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch


class TimmEncoder(torch.nn.Module):
    """A timm model and the tensor taken from it: normalised (n, 3, size, size) -> (n, dim)."""

    def __init__(self, trunk: torch.nn.Module, output: str, *, projection: torch.nn.Linear | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.take = TAKES[output]
        self.projection = projection

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        vectors = self.take(self.trunk, images)
        return vectors if self.projection is None else self.projection(vectors)


def _own(trunk: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return trunk(images)  # (n, dim): pooled, or logits, by how the model was built


def _cls(trunk: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return trunk.forward_features(images)[:, 0]  # (n, dim)


def _mean(trunk: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    tokens = trunk.forward_features(images)  # (n, prefix + patches, dim)
    return tokens[:, trunk.num_prefix_tokens :].mean(1)


def _cls_mean(trunk: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    tokens = trunk.forward_features(images)  # (n, prefix + patches, dim); registers belong to the prefix
    return torch.cat([tokens[:, 0], tokens[:, trunk.num_prefix_tokens :].mean(1)], dim=-1)  # (n, 2 dim)


def _map_mean(trunk: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return trunk.forward_features(images).mean((2, 3))  # (n, dim, h, w) -> (n, dim)


TAKES: dict[str, Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]] = {
    "pooled": _own,
    "logits": _own,
    "projected": _own,
    "cls": _cls,
    "mean": _mean,
    "cls_mean": _cls_mean,
    "map_mean": _map_mean,
}


def content_noise(pixels: np.ndarray, patches: int) -> torch.Tensor:
    """pixels: (n, size, size, 3) uint8 -> (n, patches) float32, uniform in 0..1, drawn from each image's own bytes."""
    seeds = [zlib.crc32(np.ascontiguousarray(image)) for image in pixels]
    return torch.from_numpy(np.stack([np.random.default_rng(seed).random(patches, np.float32) for seed in seeds]))


class MaskedEncoder(torch.nn.Module):
    """A masked autoencoder's encoder as in training: the class token of a random quarter of the patches.

    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, section 3. transformers' ViTMAEModel masks
    at inference too, anew at each call, and a published benchmark took its vectors so. Here the noise of an image is drawn from
    the image itself: vectors can be had again, and do not depend on their batch.
    """

    KEPT = 0.25

    def __init__(self, trunk: torch.nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def noise(self, pixels: np.ndarray) -> torch.Tensor:
        return content_noise(pixels, self.trunk.patch_embed.num_patches)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """images: (n, 3, size, size); noise: (n, patches): the quarter with the least noise is seen."""
        trunk = self.trunk
        tokens = trunk.patch_embed(images) + trunk.pos_embed[:, 1:]  # (n, patches, dim)
        kept = noise.argsort(dim=1)[:, : int(tokens.shape[1] * self.KEPT)]
        tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
        first = (trunk.cls_token + trunk.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        return trunk.norm(trunk.blocks(torch.cat([first, tokens], dim=1)))[:, 0]
