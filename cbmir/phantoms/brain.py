"""The shape of a brain that CT and MR share: folds and ventricles, in axial section."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, arc, blur, edge, texture


def brain_folds(f: Frame, body: np.random.Generator, rim: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """rim: (h, w) normalized radius of the brain -> (cortex, sulci) masks 0..1: folds that open to the surface."""
    folds = texture(f, body, 6.0) + 0.5 * texture(f, body, 12.0)
    depth = 0.62 + 0.05 * texture(f, body, 5.0)
    near = edge(depth - rim, 0.06)
    cortex = np.maximum(np.exp(-((folds / 0.55) ** 2)) * near, edge(0.93 - rim, 0.03))
    sulci = np.maximum(np.exp(-((folds / 0.20) ** 2)) * edge(depth + 0.06 - rim, 0.05), edge(0.99 - rim, 0.012))
    return cortex, sulci


def ventricles(f: Frame, size: float) -> np.ndarray:
    """Mask of the lateral ventricles (front and back horns) and the slit between them."""
    sketch = Sketch(f)
    for side in (-1, 1):
        sketch.line(arc((side * 0.13, -0.32), (side * 0.02, -0.16), (side * 0.06, 0.05)), 0.080 * size)
        sketch.line(arc((side * 0.07, 0.05), (side * 0.13, 0.22), (side * 0.26, 0.38)), 0.085 * size)
    sketch.line([(0, 0.02), (0, 0.15)], 0.03 * size)
    return blur(sketch.mask(), 1.2)
