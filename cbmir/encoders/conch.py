"""The image half of CONCH, built from its published configuration.

Lu et al., A visual-language foundation model for computational pathology, Nature Medicine 2024: a ViT-B/16 at 448 pixels
whose tokens are pooled by attention with one learned query (CoCa), to 512 numbers.
"""

from __future__ import annotations

import torch


class Conch(torch.nn.Module):
    """Normalised (n, 3, size, size) -> (n, 512), before the projection to the space shared with texts."""

    def __init__(self, *, size: int = 448, depth: int = 12, width: int = 768, dim: int = 512, heads: int = 8) -> None:
        super().__init__()
        from open_clip.transformer import AttentionalPooler
        from timm.models.vision_transformer import VisionTransformer

        self.trunk = VisionTransformer(
            img_size=size, patch_size=16, embed_dim=width, depth=depth, num_heads=12, num_classes=0
        )
        self.attn_pool_contrast = AttentionalPooler(dim, width, n_head=heads, n_queries=1)
        self.ln_contrast = torch.nn.LayerNorm(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(images)  # (n, 1 + patches, width)
        return self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])
