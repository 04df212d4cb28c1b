"""What MR images share: a coil with a bias field, and the noise of a magnitude image."""

import numpy as np

from cbmir.phantoms.canvas import blob, blur
from cbmir.phantoms.catalog import Case


def acquire(image: np.ndarray, case: Case, noise: float) -> np.ndarray:
    """Bias field of the coil, Rician noise (magnitude of a complex signal), never negative."""
    f, rng = case.frame, case.rng
    cx, cy = rng.uniform(-0.7, 0.7, 2)
    bias = 0.86 + 0.28 * blob(f, cx, cy, 1.1)
    signal = blur(image * bias, 0.65)
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(noise)
    return np.hypot(signal + real, imaginary).astype(np.float32)
