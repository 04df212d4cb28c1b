"""What a person says about an embedding run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cbmir.encoders.fetch import Reach
from cbmir.errors import UserError


@dataclass(frozen=True)
class EmbedOptions:
    """What a person says about a run; only image size, weights, precision, dtype, packed and whole_decode decide the vectors."""

    image_size: int | None = None
    batch_size: int | None = None  # most images in a forward pass; None: what the device is good at
    device: str = "auto"  # auto, cpu, cuda
    precision: str = "auto"  # auto: bfloat16 where the device computes in it, else float32
    packed: bool = False  # pixels from the study's packed images instead of the files
    whole_decode: bool = False  # JPEG at its full size, even where an encoder takes far fewer pixels
    color_resize: bool = False  # grey images resized as three equal channels; the result is the same
    decode_workers: int | None = None  # tasks that read and decode at a time; None: as many as the encoders leave cores
    profile: str | None = None  # file for Ray's timeline
    compiled: bool = False  # torch.compile
    reach: Reach = field(default_factory=Reach)  # how far the search for weights goes
    dtype: str = "float32"  # of the stored vectors
    weights: dict[str, str] = field(
        default_factory=dict
    )  # encoder name as given -> file or address; '' for the only one
    random_weights: int | None = None
    max_failures: float = 0.01  # share of the manifest
    overwrite: bool = False
    retry_failures: bool = False
    ray_address: str | None = None

    def refuse_nonsense(self) -> None:
        """UserError for values outside what they can be."""
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"--batch-size {self.batch_size}; expected 1 or more")
        if self.decode_workers is not None and self.decode_workers < 1:
            raise UserError(f"--decode-workers {self.decode_workers}; expected 1 or more")
        if self.profile and not os.path.isdir(os.path.dirname(os.path.abspath(self.profile))):
            raise UserError(f"--profile {self.profile}: no such directory; expected a file to write in one that exists")
        if self.packed and self.whole_decode:
            raise UserError("--whole-decode with --packed: packed images are decoded already; give it to cbmir pack")
        if self.image_size is not None and not 8 <= self.image_size <= 4096:
            raise UserError(f"--image-size {self.image_size}; expected 8 to 4096 pixels")
        if not 0 <= self.max_failures <= 1:
            raise UserError(f"--max-failures {self.max_failures}; expected a share such as 0.01 or 1%")
        expected = {
            "device": ("auto", "cpu", "cuda"),
            "precision": ("auto", "float32", "bfloat16", "float16"),
            "dtype": ("float32", "float16"),
        }
        for name, values in expected.items():
            if getattr(self, name) not in values:
                raise UserError(f"--{name} {getattr(self, name)}; expected one of: {', '.join(values)}")
