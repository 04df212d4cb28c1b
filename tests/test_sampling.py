"""Orders of nested samples: whose share a prefix holds, what decides an order and what does not."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.sampling import patient_order, random_order, stratified_order

TEXTS = pa.list_(pa.string())


def drawn(seed: int, n: int) -> tuple[np.ndarray, list[list[str]], list[str | None]]:
    """Keys, labels of very unequal counts (none to three an image), and patients (some images have none)."""
    rng = np.random.default_rng(seed)
    keys = rng.choice(2**62, n, replace=False) + 1
    labels = [sorted({f"l{min(x, 12)}" for x in rng.zipf(1.6, rng.integers(0, 4))}) for _ in range(n)]
    patients = [f"p{x}" if x % 5 else None for x in rng.integers(0, max(1, n // 3), n)]
    return keys, labels, patients


def orders(keys, labels, patients, seed) -> dict[str, np.ndarray]:
    return {
        "random": random_order(keys, seed=seed),
        "stratified": stratified_order(keys, pa.array(labels, TEXTS), seed=seed),
        "patient": patient_order(keys, pa.array(patients, pa.string()), seed=seed).keys,
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 120))
def test_an_order_has_every_key_once_whatever_the_order_of_rows(seed, n):
    keys, labels, patients = drawn(seed, n)
    mixed = np.random.default_rng(seed + 1).permutation(n)
    other = orders(keys[mixed], [labels[i] for i in mixed], [patients[i] for i in mixed], seed)
    for name, order in orders(keys, labels, patients, seed).items():
        np.testing.assert_array_equal(np.sort(order), np.sort(keys))
        np.testing.assert_array_equal(order, other[name])


def test_seeds_give_different_orders_and_chunks_the_same():
    keys, labels, patients = drawn(0, 300)
    one, other = orders(keys, labels, patients, 1), orders(keys, labels, patients, 2)
    for name in one:
        assert (one[name] != other[name]).mean() > 0.8, name
    cut = [pa.chunked_array([column[:100], column[100:]]) for column in (pa.array(labels, TEXTS), pa.array(patients))]
    np.testing.assert_array_equal(stratified_order(keys, cut[0], seed=1), one["stratified"])
    np.testing.assert_array_equal(patient_order(keys, cut[1], seed=1).keys, one["patient"])


def test_random_places_are_even_and_unlike_between_seeds():
    """Consecutive keys: the mean place of the lower half, and the correlation of two seeds' places, within 5 standard errors."""
    keys, n = np.arange(1, 20_001), 20_000
    places = [np.argsort(random_order(keys, seed=seed)) for seed in (0, 1)]
    for place in places:
        assert abs(place[: n // 2].mean() / n - 0.5) < 5 * np.sqrt(1 / 12 / (n // 2))
        assert abs(np.corrcoef(place[1:], place[:-1])[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(*places)[0, 1]) < 5 / np.sqrt(n)


def test_a_gallery_that_grows_keeps_the_random_order_of_what_it_had():
    keys, _, _ = drawn(3, 200)
    grown = random_order(keys, seed=4)
    np.testing.assert_array_equal(grown[np.isin(grown, keys[:120])], random_order(keys[:120], seed=4))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 200))
def test_each_prefix_holds_each_stratum_within_one_image_of_its_share(seed, n):
    keys, labels, _ = drawn(seed, n)
    count = {label: sum(label in row for row in labels) for row in labels for label in row}
    stratum = {
        key: min(row, key=lambda label: (count[label], label)) if row else None
        for key, row in zip(keys.tolist(), labels, strict=True)
    }
    order = [stratum[key] for key in stratified_order(keys, pa.array(labels, TEXTS), seed=seed).tolist()]
    for name in set(order):
        seen = np.cumsum([each == name for each in order])
        share = np.arange(1, n + 1) * seen[-1] / n
        assert (np.abs(seen - share) < 1).all(), name
        assert order.index(name) < n / seen[-1]


def test_rare_labels_are_spread_and_not_left_to_the_end():
    labels = [["common"]] * 900 + [[f"rare{i}", "common"] for i in range(100)]
    order = stratified_order(np.arange(1_000), pa.array(labels, TEXTS), seed=5)
    for size in (50, 100, 500):
        assert (order[:size] >= 900).sum() == pytest.approx(size / 10, abs=1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 120))
def test_patients_come_whole(seed, n):
    keys, _, patients = drawn(seed, n)
    whose = {key: patient or key for key, patient in zip(keys.tolist(), patients, strict=True)}
    order = patient_order(keys, pa.array(patients, pa.string()), seed=seed)
    names = [whose[key] for key in order.keys.tolist()]
    ends = [i + 1 for i in range(n) if i + 1 == n or names[i + 1] != names[i]]
    assert order.ends.tolist() == ends
    assert len(ends) == len(set(names))  # no patient begins twice
    asked = sorted({1, (n + 1) // 2, n})
    assert order.sizes(asked) == tuple(min(end for end in ends if end >= size) for size in asked)
