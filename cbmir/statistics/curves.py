"""Curves of a figure against the number of images: two models with few parameters, fitted by least squares.

power        value = ceiling - scale * n^-exponent, 0 <= ceiling <= 1, exponent > 0: what is missing falls as a power of n, as the error of nearest
             neighbors does (Cover and Hart 1967: the limit; Hestness et al. 2017, Deep learning scaling is predictable, empirically: the power)
logarithmic  value = intercept + slope * log10(n): each tenfold gallery adds as much; it has no limit, and is only a description

A predicted value is held to 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_EXPONENTS = (0.01, 5.0)
_GRID, _ROUNDS = 24, 36  # exponents tried first; golden sections of the best one's surroundings
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Model:
    """A family of curves.

    fit      sizes (s,), values (s, d) of d curves -> parameters (p, d)
    predict  parameters (p, d), sizes (m,) -> values (m, d)
    """

    name: str
    least_sizes: int  # different ones, that it can be fitted to, with something left to judge the fit by
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray]
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def fits(self, sizes: np.ndarray) -> bool:
        """Whether there are sizes (s,) enough; a size that comes twice is one."""
        return len(np.unique(sizes)) >= self.least_sizes


def fit_logarithmic(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(intercept, slope) of each curve."""
    x = np.log10(sizes)
    centred = x - x.mean()
    slope = centred @ values / (centred @ centred)
    return np.stack([values.mean(axis=0) - slope * x.mean(), slope])


def fit_power(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(ceiling, scale, exponent) of each curve.

    For a given exponent the other two follow from linear least squares, so that only the exponent is searched for: on a grid, and then by golden
    sections around the best of it.
    """
    scaled = sizes / np.exp(np.log(sizes).mean())  # powers of numbers around 1
    grid = np.linspace(*np.log(_EXPONENTS), _GRID)
    best = np.stack([_error(scaled, values, np.full(values.shape[1], at)) for at in grid]).argmin(axis=0)
    least, most = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    left, right = most - _GOLDEN * (most - least), least + _GOLDEN * (most - least)
    at_left, at_right = _error(scaled, values, left), _error(scaled, values, right)
    for _ in range(_ROUNDS):
        lower = at_left < at_right  # the least error is left of `right`
        least, most = np.where(lower, least, left), np.where(lower, right, most)
        new = np.where(lower, most - _GOLDEN * (most - least), least + _GOLDEN * (most - least))
        error = _error(scaled, values, new)
        left, right = np.where(lower, new, right), np.where(lower, left, new)
        at_left, at_right = np.where(lower, error, at_right), np.where(lower, at_left, error)
    exponent = np.exp((least + most) / 2)
    ceiling, scale, _ = _linear(scaled, values, exponent)
    return np.stack([ceiling, scale * np.exp(np.log(sizes).mean()) ** exponent, exponent])


def _error(sizes: np.ndarray, values: np.ndarray, log_exponent: np.ndarray) -> np.ndarray:
    return _linear(sizes, values, np.exp(log_exponent))[2]


def _linear(sizes: np.ndarray, values: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ceiling within 0..1, scale, and squared error (d,) at exponents (d,)."""
    x = sizes[:, None] ** -exponent[None, :]  # (s, d)
    centred = x - x.mean(axis=0)
    scale = -(centred * values).sum(axis=0) / np.maximum((centred * centred).sum(axis=0), 1e-300)
    ceiling = values.mean(axis=0) + scale * x.mean(axis=0)
    outside = (ceiling < 0) | (ceiling > 1)
    held = np.clip(ceiling, 0, 1)
    at_bound = ((held - values) * x).sum(axis=0) / (x * x).sum(axis=0)
    scale, ceiling = np.where(outside, at_bound, scale), held
    left = values - (ceiling - scale * x)
    return ceiling, scale, (left * left).sum(axis=0)


def _predict_logarithmic(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    intercept, slope = parameters
    return np.clip(intercept + slope * np.log10(sizes)[:, None], 0, 1)


def _predict_power(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    ceiling, scale, exponent = parameters
    return np.clip(ceiling - scale * sizes[:, None] ** -exponent, 0, 1)


MODELS = (
    Model("power", 4, fit_power, _predict_power),
    Model("logarithmic", 3, fit_logarithmic, _predict_logarithmic),
)


def choose(sizes: np.ndarray, values: np.ndarray, models: tuple[Model, ...] = MODELS) -> Model | None:
    """sizes (s,) ascending, values (s,) -> the model that, fitted to all sizes but the largest, comes closest to the value there.

    Of those alone that have sizes enough; None: there is none.
    """
    able = [model for model in models if model.fits(sizes)]
    if len(able) < 2:
        return able[0] if able else None

    def missed(model: Model) -> float:
        parameters = model.fit(sizes[:-1], values[:-1, None])
        return abs(float(model.predict(parameters, sizes[-1:])[0, 0]) - values[-1])

    return min(able, key=missed)
