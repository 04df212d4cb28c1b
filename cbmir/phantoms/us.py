"""Ultrasound: echo levels under speckle, with attenuation by depth, shadows and enhancement behind what the beam meets."""

import numpy as np
from PIL import Image

from cbmir.phantoms.canvas import Frame, Sketch, arc, blob, blur, edge, ellipse, fractal, paint, radius, texture
from cbmir.phantoms.catalog import Case


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(h, w): log of a Rayleigh envelope, mean 0; grains are wider than deep, as a linear probe makes them."""
    h, w = shape
    size = (max(8, int(h / 1.3)), max(8, int(w / 2.3)))
    waves = rng.standard_normal((2, *size), dtype=np.float32)
    real, imaginary = (np.asarray(Image.fromarray(wave).resize((w, h), Image.Resampling.BICUBIC)) for wave in waves)
    envelope = np.log(np.hypot(real, imaginary) + 0.05)
    return envelope - envelope.mean()


def _sector(shape: tuple[int, int], flare: float, top: float) -> tuple[np.ndarray, np.ndarray]:
    """The probe's field in the image, not in the body: (mask, depth 0..1); flare: how much wider at the bottom."""
    h, w = shape
    u = (np.arange(w, dtype=np.float32) + 0.5) / w * 2 - 1
    depth = ((np.arange(h, dtype=np.float32) + 0.5) / h)[:, None]
    surface = top + flare * 0.10 * u**2
    half = 0.90 - flare * (1 - depth) * 0.42
    mask = edge(np.abs(u) - half, 0.006) * edge(surface - depth, 0.006) * edge(depth - 0.965, 0.006)
    return mask, np.broadcast_to(depth, shape)


def _behind(f: Frame, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """Mask of the beam's path below an obstacle."""
    return edge(np.abs(f.x - cx) - 0.85 * rx, 0.06) * edge(cy + 0.4 * ry - f.y, 0.08)


def _show(echo: np.ndarray, case: Case, *, flare: float) -> np.ndarray:
    """echo: (h, w) grey level 0..1 before speckle -> display grey 0..1 with sector, gain and scale ticks."""
    rng = case.rng
    mask, depth = _sector(echo.shape, flare, 0.05)
    gain = rng.uniform(0.92, 1.12) * (1.05 - 0.42 * depth**1.5)
    grain = _speckle(echo.shape, rng) * (0.035 + 0.20 * np.clip(echo, 0, 1))
    shown = np.clip(echo * gain + grain * rng.uniform(0.85, 1.05), 0.0, 1)
    shown = np.clip(blur(shown, 0.5), 0.015, 1) * mask
    h, w = echo.shape
    for row in np.linspace(0.06 * h, 0.95 * h, 7).astype(int):
        shown[row, w - 8 : w - 3] = 0.75
    shown[int(0.05 * h) : int(0.05 * h) + 5, 4:9] = 0.9
    return shown.astype(np.float32)


def draw_breast(case: Case) -> np.ndarray:
    """Case -> (h, w) float32 0..1: skin, fat with its septa, gland, muscle over the chest wall."""
    f, traits, body = case.frame, case.habitus.traits, case.body
    fat_end = -0.50 + 0.30 * (case.habitus.fat - 0.4) + 0.07 * texture(f, body, 1.6)
    gland_end = 0.28 + 0.08 * traits[0] + 0.06 * texture(f, body, 1.3)
    echo = 0.27 + 0.03 * fractal(f, body, 5, 2)
    septa = np.exp(-((texture(f, body, 2.2, aspect=1.6) / 0.10) ** 2))
    echo = paint(echo, 0.75 * septa, 0.56)
    gland = edge(fat_end - f.y, 0.05) * edge(f.y - gland_end, 0.05)
    ducts = np.clip(texture(f, body, 5, aspect=1.7), -1.5, 1.5)
    echo = paint(echo, gland, 0.60 + 0.09 * ducts)
    muscle = edge(gland_end + 0.16 - f.y, 0.03)
    echo = paint(echo, muscle, 0.33 + 0.12 * np.sin(55 * (f.y - 0.12 * f.x) + 1.5 * texture(f, body, 2)))
    for at in (gland_end + 0.16, gland_end + 0.46):
        echo = paint(echo, np.exp(-(((f.y - at) / 0.018) ** 2)), 0.85)
    echo = paint(echo, edge(gland_end + 0.50 - f.y, 0.04), 0.16)
    echo = paint(echo, edge(f.y + 0.83, 0.015), 0.72)
    return _show(_breast_findings(echo, case), case, flare=0.0)


def _breast_findings(echo: np.ndarray, case: Case) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    cx, cy = lesion.uniform(-0.65, 0.65), lesion.uniform(-0.35, 0.10)
    if "Cyst" in case.findings:
        rx = lesion.uniform(0.15, 0.32)
        ry = rx * lesion.uniform(0.6, 0.85)
        echo = echo + 0.20 * _behind(f, cx, cy, rx, ry)
        away = radius(f, cx, cy, rx, ry)
        echo = paint(echo, np.exp(-(((away - 1) / 0.07) ** 2)) * (np.abs(f.y - cy) > 0.6 * ry), 0.88)
        echo = paint(echo, edge((away - 1) * ry, 0.015), 0.02)
    if "Mass" in case.findings:
        r = lesion.uniform(0.15, 0.26)
        spikes = r * (0.22 * texture(f, lesion, 7) + 0.16 * texture(f, lesion, 3))
        away = radius(f, cx, cy, 1, lesion.uniform(1.1, 1.4)) - r + spikes
        echo = echo * (1 - 0.68 * _behind(f, cx, cy, 0.9 * r, r))
        echo = paint(echo, 0.7 * edge(away - 0.05, 0.05), 0.66)
        echo = paint(echo, edge(away, 0.025), 0.15 + 0.03 * texture(f, lesion, 10))
    return np.clip(echo, 0, 1)


def draw_thyroid(case: Case) -> np.ndarray:
    """Case -> (h, w) float32 0..1, transverse: trachea in the middle, a lobe and the carotid on both sides."""
    f, traits, body, lesion = case.frame, case.habitus.traits, case.body, case.lesion
    swollen = lesion.uniform(1.10, 1.28) if "Diffuse" in case.findings else 1.0
    echo = 0.30 + 0.05 * fractal(f, body, 4, 2)
    echo = paint(echo, edge(0.48 - f.y, 0.06), 0.24 + 0.05 * texture(f, body, 3))
    straps = edge(np.abs(f.y + 0.50 + 0.10 * np.abs(f.x)) - 0.10, 0.03) * edge(np.abs(f.x) - 1.0, 0.06)
    echo = paint(echo, straps, 0.21 + 0.03 * texture(f, body, 14, aspect=0.4))
    for side in (-1, 1):
        muscle = ellipse(f, side * 1.05, -0.42, 0.42, 0.20, side * 0.35, soft=0.04)
        echo = paint(echo, muscle, 0.22 + 0.04 * texture(f, body, 12, aspect=0.4))
    gland = _gland(f, traits, swollen)
    echo = paint(echo, np.clip(4 * gland * (1 - gland), 0, 1) * 0.8, 0.80)
    echo = paint(echo, gland, _gland_echo(case))
    if "Nodule" in case.findings:
        echo = _thyroid_nodule(echo, case, gland)
    for side in (-1, 1):
        echo = _carotid(echo, f, side, traits)
    echo = _trachea(echo, f)
    echo = paint(echo, edge(f.y + 0.82, 0.015), 0.70)
    echo = paint(echo, np.exp(-(((f.y + 0.66) / 0.02) ** 2)), 0.55)
    return _show(np.clip(echo, 0, 1), case, flare=0.75)


def _gland(f: Frame, traits: tuple[float, ...], swollen: float) -> np.ndarray:
    lobes = [
        ellipse(f, side * 0.50, -0.04, 0.29 * swollen, 0.27 * swollen * (1 + 0.07 * traits[0]), side * -0.35, soft=0.02)
        for side in (-1, 1)
    ]
    isthmus = ellipse(f, 0, -0.29, 0.40, 0.065 * swollen, soft=0.02)
    return np.maximum(np.maximum(*lobes), isthmus)


def _gland_echo(case: Case) -> np.ndarray:
    """Even and bright when healthy; dark patches between bright septa when diffusely inflamed."""
    f = case.frame
    if "Diffuse" not in case.findings:
        return 0.60 + 0.02 * texture(f, case.body, 8)
    patches = texture(f, case.lesion, 6)
    return 0.36 + 0.07 * patches + 0.32 * np.exp(-((texture(f, case.lesion, 5) / 0.14) ** 2))


def _thyroid_nodule(echo: np.ndarray, case: Case, gland: np.ndarray) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    cx, cy = lesion.choice([-1, 1]) * lesion.uniform(0.42, 0.58), lesion.uniform(-0.12, 0.06)
    r = lesion.uniform(0.09, 0.17)
    away = radius(f, cx, cy, 1, lesion.uniform(0.75, 1.0)) - r
    inside = lesion.choice([0.30, 0.36, 0.74])
    echo = paint(echo, edge(away - 0.022, 0.014) * gland, 0.20)
    echo = paint(echo, edge(away, 0.015) * gland, inside + 0.04 * texture(f, lesion, 10))
    if lesion.random() < 0.35:
        sx, sy = cx + lesion.uniform(-0.05, 0.05), cy + lesion.uniform(-0.04, 0.04)
        echo = echo * (1 - 0.5 * _behind(f, sx, sy + 0.03, 0.035, 0.03))
        echo = paint(echo, blob(f, sx, sy, 0.022), 0.98)
    return echo


def _carotid(echo: np.ndarray, f: Frame, side: int, traits: tuple[float, ...]) -> np.ndarray:
    cx, cy, r = side * 0.90, 0.07 + 0.04 * traits[1], 0.115
    echo = echo + 0.10 * _behind(f, cx, cy, r, r)
    echo = paint(echo, ellipse(f, cx, cy, r + 0.025, r + 0.025), 0.68)
    echo = paint(echo, ellipse(f, cx, cy, r, r), 0.03)
    return paint(echo, ellipse(f, side * 1.12, -0.10, 0.15, 0.075, side * 0.3), 0.05)


def _trachea(echo: np.ndarray, f: Frame) -> np.ndarray:
    """Cartilage arch, bright air behind it, and reverberation that fades in the shadow."""
    away = radius(f, 0, 0.10, 0.25, 0.30)
    shadow = np.maximum(edge((away - 1) * 0.25, 0.02), edge(np.abs(f.x) - 0.235, 0.03) * edge(0.10 - f.y, 0.03))
    echo = paint(echo, shadow, 0.10)
    for i in range(4):
        top = -0.17 + 0.11 * i
        line = np.exp(-(((f.y - top - 0.7 * f.x**2) / 0.020) ** 2)) * edge(np.abs(f.x) - 0.16, 0.06)
        echo = paint(echo, line * 0.75**i, 0.85)
    arch = Sketch(f)
    arch.line(arc((-0.25, 0.10), (-0.24, -0.30), (0.24, -0.30), (0.25, 0.10)), 0.04)
    return paint(echo, 0.7 * blur(arch.mask(), 1.0), 0.34)
