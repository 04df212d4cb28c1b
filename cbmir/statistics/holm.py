"""Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """p (n,) of one question's tests -> (n,) float64 adjusted: whoever rejects where it is below 0.05 errs anywhere in at most 5 % of tables.

    The smallest of n is multiplied by n, the next by n - 1 and so on; none gets smaller than the one before, or larger than 1. NaN is no test:
    it stays NaN and is not counted.
    """
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted
