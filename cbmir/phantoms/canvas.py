"""Smooth shapes and anatomy-locked texture on a grid in body coordinates.

Body coordinates: x to the right, y down, the origin at the image's centre, 1.0 = half of the shorter image side (before
zoom). A frame holds the affine map between body and pixels, so that pose never touches the anatomy's own numbers.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Points = list[tuple[float, float]]

# Textures cover -REACH..REACH of the body plane: beyond every corner of a rotated, shifted frame.
REACH = 2.4
# Bumps to a body unit from which on a texture is too fine for its interpolation to be seen.
FINE = 7


@dataclass(frozen=True)
class Frame:
    """x, y: (h, w) float32 body coordinates of every pixel; forward: (2, 3) body -> pixel."""

    x: np.ndarray
    y: np.ndarray
    forward: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape


def place(shape: tuple[int, int], *, angle: float, zoom: float, shift: tuple[float, float], stretch) -> Frame:
    """Pose -> Frame. shape (h, w) pixels, angle in radians, shift in body units, stretch (sx, sy) of the habitus."""
    h, w = shape
    unit = min(h, w) / 2 * zoom
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = unit * turn @ np.diag(stretch)
    offset = np.array([w / 2 + shift[0] * unit, h / 2 + shift[1] * unit])
    inverse = np.linalg.inv(linear)
    columns = np.arange(w) + 0.5 - offset[0]
    rows = (np.arange(h) + 0.5 - offset[1])[:, None]
    x = (inverse[0, 0] * columns + inverse[0, 1] * rows).astype(np.float32)
    y = (inverse[1, 0] * columns + inverse[1, 1] * rows).astype(np.float32)
    return Frame(x, y, np.column_stack([linear, offset]))


def edge(distance: np.ndarray, soft: float) -> np.ndarray:
    """Signed distance (negative inside) -> mask 0..1 with a soft border of about `soft` body units."""
    t = np.clip(0.5 - distance / (2 * soft), 0, 1)
    return t * t * (3 - 2 * t)


def _axes(f: Frame, cx: float, cy: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = f.x - np.float32(cx), f.y - np.float32(cy)
    return dx * c + dy * s, dy * c - dx * s


def radius(f: Frame, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, power: float = 2.0) -> np.ndarray:
    """(h, w): 0 at the centre, 1 on the (super)ellipse; power above 2 is boxier."""
    u, v = _axes(f, cx, cy, angle)
    if power == 2.0:
        return np.sqrt((u / np.float32(rx)) ** 2 + (v / np.float32(ry)) ** 2)
    return (np.abs(u / np.float32(rx)) ** power + np.abs(v / np.float32(ry)) ** power) ** np.float32(1 / power)


def ellipse(f: Frame, cx, cy, rx, ry, angle=0.0, *, soft=0.02, power=2.0) -> np.ndarray:
    """Mask (h, w) 0..1 of a filled (super)ellipse."""
    return edge((radius(f, cx, cy, rx, ry, angle, power) - 1) * np.float32(min(rx, ry)), soft)


def ring(f: Frame, cx, cy, rx, ry, width, angle=0.0, *, soft=0.02) -> np.ndarray:
    """Mask (h, w) 0..1 of an elliptic outline, `width` body units thick."""
    gap = np.abs((radius(f, cx, cy, rx, ry, angle) - 1) * np.float32(min(rx, ry)))
    return edge(gap - np.float32(width / 2), soft)


def blob(f: Frame, cx, cy, sx, sy=None, angle=0.0) -> np.ndarray:
    """Gaussian hill (h, w) with peak 1; sx, sy are standard deviations in body units."""
    return np.exp(-0.5 * radius(f, cx, cy, sx, sx if sy is None else sy, angle) ** 2)


def paint(canvas: np.ndarray, mask: np.ndarray, value) -> np.ndarray:
    """A new canvas with `value` (a number or an array) laid over it where the mask is 1."""
    return canvas + mask * (value - canvas)


def texture(f: Frame, rng: np.random.Generator, cells: float, *, aspect: float = 1.0) -> np.ndarray:
    """Smooth noise (h, w), about -2..2 (unit variance), fixed to the body: `cells` bumps to a body unit along x."""
    columns = int(2 * REACH * cells) + 4
    rows = int(2 * REACH * cells * aspect) + 4
    grid = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
    a, b = f.x[0, 1] - f.x[0, 0], f.x[1, 0] - f.x[0, 0]
    d, e = f.y[0, 1] - f.y[0, 0], f.y[1, 0] - f.y[0, 0]
    x0, y0 = f.x[0, 0] - (a + b) / 2, f.y[0, 0] - (d + e) / 2
    down = cells * aspect
    affine = (a * cells, b * cells, (x0 + REACH) * cells + 2, d * down, e * down, (y0 + REACH) * down + 2)
    # Creases of the linear kernel show in wide bumps only, and it takes a third of the time; both lose some variance.
    kernel, gain = (Image.Resampling.BICUBIC, 1.3) if cells < FINE else (Image.Resampling.BILINEAR, 1.5)
    size = (f.shape[1], f.shape[0])
    sampled = grid.transform(size, Image.Transform.AFFINE, [float(v) for v in affine], kernel)
    return np.asarray(sampled) * np.float32(gain)


def fractal(f: Frame, rng: np.random.Generator, cells: float, octaves: int = 3) -> np.ndarray:
    """Sum of textures (h, w), each octave twice as fine and 0.6 as strong; about unit variance."""
    total = sum(texture(f, rng, cells * 2**i) * np.float32(0.6**i) for i in range(octaves))
    return total / np.float32(np.sqrt(sum(0.36**i for i in range(octaves))))


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in pixels; the borders repeat, so that they do not darken."""
    reach = int(3 * sigma) + 1
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    h, w = image.shape
    wide = np.pad(image.astype(np.float32, copy=False), reach, mode="edge")
    rows = sum(tap * wide[i : i + h] for i, tap in enumerate(taps))
    return sum(tap * rows[:, i : i + w] for i, tap in enumerate(taps))


class Sketch:
    """Polygons and lines in body coordinates, antialiased: drawn at twice the size and halved."""

    def __init__(self, f: Frame):
        self._forward = f.forward
        self._size = (f.shape[1], f.shape[0])
        self._image = Image.new("L", (2 * f.shape[1], 2 * f.shape[0]))
        self._draw = ImageDraw.Draw(self._image)
        self._unit = 2 * float(np.sqrt(abs(np.linalg.det(f.forward[:, :2]))))

    def _pixels(self, points: Points) -> Points:
        moved = np.asarray(points) @ self._forward[:, :2].T + self._forward[:, 2]
        return [(float(px), float(py)) for px, py in 2 * moved]

    def fill(self, points: Points, value: float = 1.0) -> None:
        """Polygon with grey `value` 0..1, over what is there."""
        self._draw.polygon(self._pixels(points), fill=round(255 * value))

    def line(self, points: Points, width: float, value: float = 1.0) -> None:
        """Line with round ends and joints, `width` in body units."""
        grey, thick = round(255 * value), max(1, round(width * self._unit))
        pixels = self._pixels(points)
        self._draw.line(pixels, fill=grey, width=thick, joint="curve")
        for px, py in (pixels[0], pixels[-1]):
            r = thick / 2
            self._draw.ellipse((px - r, py - r, px + r, py + r), fill=grey)

    def mask(self) -> np.ndarray:
        """(h, w) float32 0..1."""
        return np.asarray(self._image.resize(self._size, Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


def arc(*corners: tuple[float, float], steps: int = 12) -> Points:
    """Bezier curve through its first and last corner, drawn towards the ones between."""
    t = np.linspace(0, 1, steps)[:, None]
    level = [np.asarray(corner, dtype=float) for corner in corners]
    while len(level) > 1:
        level = [p * (1 - t) + q * t for p, q in pairwise(level)]
    return [(float(px), float(py)) for px, py in level[0]]


def wander(rng: np.random.Generator, start, heading: float, length: float, *, bend=0.25, steps=6) -> Points:
    """A wiggling path from `start`; heading in radians (0 = +x, pi/2 = down), length in body units."""
    points, (px, py) = [tuple(start)], start
    for turn in rng.normal(0, bend, steps):
        heading += turn
        px, py = px + np.cos(heading) * length / steps, py + np.sin(heading) * length / steps
        points.append((float(px), float(py)))
    return points
