"""Intervals, paired comparisons and Holm's correction against plain loops, scipy, enumeration and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.statistics import bootstrap, drawing, paired
from cbmir.statistics.bootstrap import Resamples, with_columns
from cbmir.statistics.figures import Figures
from cbmir.statistics.holm import holm
from cbmir.statistics.paired import Exchanges, compare

seeds = st.integers(0, 2**32 - 1)


def micro(n: int) -> Figures:
    return Figures(np.zeros(n), np.zeros(n), np.arange(n))


def drawn_case(rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Entries (figure, cell, position) with overlaps, cells in common and a figure without entries; clusters (n,); n."""
    n = int(rng.integers(2, 30))
    entries = pd.DataFrame(
        {"figure": rng.choice([0, 1, 3], 60), "cell": rng.integers(0, 3, 60), "position": rng.integers(0, n, 60)}
    )
    everything = pd.DataFrame({"figure": 0, "cell": 9, "position": range(n)})
    twice = entries[entries.figure == 0].assign(figure=4, cell=lambda rows: rows.cell + 5)
    return pd.concat([entries, everything, twice, twice.assign(cell=twice.cell + 20)]), rng.integers(0, 12, n), n


def figures_of(entries: pd.DataFrame) -> Figures:
    return Figures(*(entries[column].to_numpy() for column in ("figure", "cell", "position")))


def looped(entries: pd.DataFrame, values, weights) -> dict[int, float]:
    """Each figure by its definition; values (n,), weights (n,); figures without weight are left out."""
    cells: dict[tuple[int, int], list[int]] = {}
    for figure, cell, position in entries.itertuples(index=False):
        cells.setdefault((figure, cell), []).append(position)
    means: dict[int, list[float]] = {}
    for (figure, _), members in cells.items():
        size = sum(weights[i] for i in members)
        if size:
            means.setdefault(figure, []).append(sum(weights[i] * values[i] for i in members) / size)
    return {figure: sum(of) / len(of) for figure, of in means.items()}


def between(found: list[float], share: float) -> float:
    """The value below which a share of the found ones lies, interpolated."""
    found = sorted(found)
    low, rest = divmod(share * (len(found) - 1), 1)
    return found[int(low)] * (1 - rest) + found[min(int(low) + 1, len(found) - 1)] * rest


def looped_ends(entries: pd.DataFrame, of_draws: list[dict[int, float]], clusters: np.ndarray, figure: int):
    """Ends of the 95 % interval of a figure, from what it is in each draw; None where there are none."""
    found = [draw[figure] for draw in of_draws if figure in draw]
    members = entries[entries.figure == figure].position
    if len(set(clusters[members])) < 2 or 2 * len(found) < len(of_draws):
        return None
    return between(found, 0.025), between(found, 0.975)


# figures


def test_a_macro_figure_worked_by_hand():
    figures = Figures([0, 0, 0, 1, 1, 1, 3], [0, 0, 0, 7, 7, 8, 0], [0, 1, 2, 0, 1, 2, 2])
    values = np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 1.0]])
    found = figures.means(values)
    np.testing.assert_allclose(found[0], [0.5, 1 / 3])  # micro
    np.testing.assert_allclose(found[1], [0.5, 0.5])  # ((1 + 0) / 2 + 0.5) / 2 and (0 + 1) / 2
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(found[3], [0.5, 1.0])
    assert figures.cells == 3  # of figures 1 and 3 the cell of query 2 is one


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_means_are_those_of_pandas_in_any_order(seed):
    rng = np.random.default_rng(seed)
    entries, _, n = drawn_case(rng)
    values = rng.random((n, 3))
    found = figures_of(entries).means(values)
    joined = entries.join(pd.DataFrame(values), on="position").drop(columns="position")
    expected = joined.groupby(["figure", "cell"]).mean().groupby("figure").mean().reindex(range(5))
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-12)
    shuffled = entries.sample(frac=1, random_state=seed)
    np.testing.assert_array_equal(found, figures_of(shuffled).means(values))


def test_no_entries_no_figures():
    empty = Figures([], [], [])
    assert empty.means(np.zeros((4, 2))).shape == (0, 2)
    assert [ends.shape for ends in Resamples(np.arange(4), 5).intervals(np.zeros((4, 2)), empty)] == [(0, 2)] * 2
    assert compare(np.zeros((2, 4, 3)), [(0, 1)], empty, Resamples(np.arange(4), 5), permutations=5).p.shape == (
        1,
        0,
        3,
    )


# resamples


def test_everybody_with_the_same_patients_has_the_same_resamples():
    clusters = np.array([7, 7, -2, 90, 90, 3])
    weights = Resamples(clusters, 100, seed=5).weights
    assert weights.dtype == np.uint8
    np.testing.assert_array_equal(weights, Resamples(clusters * 1000 + 1, 200, seed=5).weights[:, :100])
    np.testing.assert_array_equal(weights, Resamples(np.array([-2, 3, 7, 90]), 100, seed=5).weights)
    assert (weights != Resamples(clusters, 100, seed=6).weights).any()
    assert (weights.sum(axis=0) == 4).all()


def test_patients_are_drawn_alike():
    weights = Resamples(np.arange(50), 4000).weights.astype(float)
    assert (np.abs(weights.mean(axis=1) - 1) < 5 * np.sqrt((1 - 1 / 50) / 4000)).all()
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)
    counts = np.bincount(weights.astype(int).ravel(), minlength=5)[:5] / weights.size
    np.testing.assert_allclose(counts, scipy.stats.binom(50, 1 / 50).pmf(range(5)), atol=0.003)


def test_resamples_do_not_depend_on_how_many_are_counted_at_once(monkeypatch):
    expected = Resamples(np.arange(9), 100).weights
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7)
    np.testing.assert_array_equal(Resamples(np.arange(9), 100).weights, expected)


def test_a_weight_that_is_no_byte_is_kept():
    weights = with_columns(np.full((2, 3), 255, np.uint8), 1, np.array([[256], [70_000]]))
    np.testing.assert_array_equal(weights, [[255, 256, 255], [255, 70_000, 255]])


# intervals


@settings(max_examples=40, deadline=None)
@given(seed=seeds, numbers=st.sampled_from([1, 100, 2**21]))
def test_intervals_are_those_of_plain_loops(seed, numbers):
    rng = np.random.default_rng(seed)
    entries, clusters, n = drawn_case(rng)
    values = rng.random((n, 2))
    resamples = Resamples(clusters, 40, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_NUMBERS", numbers)
        low, high = resamples.intervals(values, figures_of(entries))
    codes = [sorted(set(clusters)).index(c) for c in clusters]
    for column in range(2):
        draws = [looped(entries, values[:, column], weights[codes].tolist()) for weights in resamples.weights.T]
        for figure in range(5):
            ends = looped_ends(entries, draws, clusters, figure)
            found = (low[figure, column], high[figure, column])
            assert np.isnan(found).all() if ends is None else found == pytest.approx(ends, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_intervals_depend_on_no_order_no_code_and_no_other_column(seed):
    rng = np.random.default_rng(seed)
    entries, clusters, n = drawn_case(rng)
    values = rng.random((n, 3))
    expected = np.stack(Resamples(clusters, 50).intervals(values, figures_of(entries)))
    order = rng.permutation(n)
    moved = entries.sample(frac=1, random_state=seed)
    moved = moved.assign(position=np.argsort(order)[moved.position])
    other = Resamples(clusters[order] * 7 - 3, 50)
    found = np.stack(other.intervals(values[order], figures_of(moved)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    alone = [other.intervals(values[order][:, [c]], figures_of(moved)) for c in range(3)]
    np.testing.assert_allclose(np.concatenate(alone, axis=2), expected, rtol=1e-12)


def test_intervals_agree_with_those_of_scipy():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 40, 120)
    values = rng.random(120) + 0.3 * (clusters % 3)
    sums = np.bincount(clusters, values, minlength=40)
    sizes = np.bincount(clusters, minlength=40)

    def mean(total, size, axis):
        return total.sum(axis=axis) / size.sum(axis=axis)

    for level in (0.95, 0.8):
        low, high = Resamples(clusters, 20_000).intervals(values[:, None], micro(120), level=level)
        theirs = scipy.stats.bootstrap(
            (sums, sizes), mean, paired=True, method="percentile", n_resamples=20_000, confidence_level=level, rng=1
        ).confidence_interval
        assert (low.item(), high.item()) == pytest.approx(tuple(theirs), abs=0.004)  # of an interval 0.13 long


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = np.zeros(2)
    for seed in range(200):
        clusters = np.repeat(np.arange(60), rng.integers(1, 5, 60))
        n = len(clusters)
        label = rng.integers(0, 3, n)
        values = 0.5 + rng.normal(0, 0.2, 60)[clusters] + rng.normal(0, 0.1, n)
        figures = Figures(np.repeat([0, 1], n), np.r_[np.zeros(n), label], np.tile(np.arange(n), 2))
        low, high = Resamples(clusters, 300, seed=seed).intervals(values[:, None], figures)
        covered += ((low <= 0.5) & (high >= 0.5))[:, 0] / 200
    assert (covered > 0.88).all()
    assert (covered < 0.99).all()


def test_images_that_resemble_each_other_are_less_evidence():
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(100), 4)
    values = rng.random(100)[clusters][:, None]
    together, alone = (Resamples(c, 2000).intervals(values, micro(400)) for c in (clusters, np.arange(400)))
    ratio = (together[1] - together[0]) / (alone[1] - alone[0])
    assert ratio.item() == pytest.approx(2, rel=0.1)  # the square root of 4


def test_no_interval_where_none_can_be_given():
    values = np.random.default_rng(0).random((200, 2))
    figures = Figures([0, 0, 1, 1], [0, 0, 0, 1], [10, 11, 11, 12])
    clusters = np.arange(200)
    clusters[11] = 10
    low, high = Resamples(clusters, 500).intervals(values, figures)
    assert np.isnan([low[0], high[0]]).all()  # two images of one patient
    assert (low[1] < high[1]).all()  # absent from some resamples
    absent = next(s for s in range(100) if not Resamples(clusters, 1, seed=s).weights[[10, 11]].any())
    assert np.isnan(Resamples(clusters, 1, seed=absent).intervals(values, figures)).all()


def test_a_value_that_is_missing_spoils_its_figure_and_column_alone():
    rng = np.random.default_rng(0)
    values = rng.random((2, 20, 2))
    values[0, 3, 1] = np.nan
    half = Figures(np.arange(20) // 10, np.zeros(20), np.arange(20))
    resamples = Resamples(np.arange(20), 50)
    expected = np.array([[False, True], [False, False]])
    for found in resamples.intervals(values[0], half):
        np.testing.assert_array_equal(np.isnan(found), expected)
    for found in compare(values, [(0, 1)], half, resamples, permutations=50):
        np.testing.assert_array_equal(np.isnan(found[0]), expected)


# paired comparisons


@settings(max_examples=25, deadline=None)
@given(seed=seeds, numbers=st.sampled_from([1, 100, 2**21]))
def test_comparisons_are_those_of_plain_loops(seed, numbers):
    rng = np.random.default_rng(seed)
    entries, clusters, n = drawn_case(rng)
    values = rng.integers(0, 4, (3, n, 2)) / 3  # many ties
    pairs = [(0, 1), (2, 0)]
    resamples = Resamples(clusters, 40, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_NUMBERS", numbers)
        patch.setattr(paired, "_AT_ONCE", 20)
        found = compare(values, pairs, figures_of(entries), resamples, permutations=50, seed=seed)
    size = resamples.clusters
    signs = np.hstack([Exchanges(size, d, seed, b).factors(np.arange(size)) for b, d in enumerate((20, 20, 10))])
    codes = np.array([sorted(set(clusters)).index(c) for c in clusters])
    ones = [1] * n
    for (pair, (a, b)), column in itertools.product(enumerate(pairs), range(2)):
        va, vb = values[a, :, column], values[b, :, column]

        def less(x, y, weights=ones):
            of_y = looped(entries, y, weights)
            return {figure: mean - of_y[figure] for figure, mean in looped(entries, x, weights).items()}

        difference = less(va, vb)
        draws = [less(va, vb, weights[codes].tolist()) for weights in resamples.weights.T]
        exchanged = [less(*np.where(sign[codes] > 0, [va, vb], [vb, va])) for sign in signs.T]
        for figure in (0, 1, 3, 4):
            at = (pair, figure, column)
            assert found.difference[at] == pytest.approx(difference[figure], abs=1e-11)
            ends = looped_ends(entries, draws, clusters, figure)
            there = (found.low[at], found.high[at])
            assert np.isnan(there).all() if ends is None else there == pytest.approx(ends, abs=1e-11)
            large = sum(abs(each[figure]) >= abs(difference[figure]) - 1e-9 for each in exchanged)
            assert found.p[at] == pytest.approx((1 + large) / 51)
        assert np.isnan([each[pair, 2, column] for each in found]).all()


def test_signs_are_fair_and_of_their_seed():
    signs = Exchanges(40, 4001, 0, 0).factors(np.arange(40))
    assert signs.shape == (40, 4001)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert (np.abs(signs.mean(axis=1)) < 5 / np.sqrt(4001)).all()
    assert (np.abs(np.corrcoef(signs)[np.triu_indices(40, 1)]) < 5 / np.sqrt(4001)).all()
    np.testing.assert_array_equal(signs[[3, 1]], Exchanges(40, 4001, 0, 0).factors(np.array([3, 1])))
    for seed, block in ((1, 0), (0, 1)):
        assert (signs != Exchanges(40, 4001, seed, block).factors(np.arange(40))).any()


@pytest.mark.parametrize("clusters", [np.arange(9), np.repeat(np.arange(9), [1, 3, 2, 1, 4, 1, 2, 1, 1])])
def test_p_is_the_share_of_all_exchanges(clusters):
    rng = np.random.default_rng(1)
    n = len(clusters)
    values = rng.random((2, n)) + np.array([[0.15], [0.0]])
    label = rng.integers(0, 3, n)
    entries = pd.DataFrame(
        {
            "figure": np.repeat([0, 1], n),
            "cell": np.r_[np.zeros(n, int), label],
            "position": np.tile(np.arange(n), 2),
        }
    )
    found = compare(values[:, :, None], [(0, 1)], figures_of(entries), Resamples(clusters, 10), permutations=20_000).p[
        0, :, 0
    ]
    large = np.zeros(2)
    observed = None
    for signs in itertools.product([1, -1], repeat=9):  # the first exchanges nothing
        x, y = np.where(np.array(signs)[clusters] > 0, values, values[::-1])
        of_x, of_y = looped(entries, x, np.ones(n)), looped(entries, y, np.ones(n))
        difference = np.array([of_x[0] - of_y[0], of_x[1] - of_y[1]])
        observed = difference if observed is None else observed
        large += np.abs(difference) >= np.abs(observed) - 1e-12
    exact = large / 2**9
    assert ((exact > 0.02) & (exact < 0.9)).all()
    np.testing.assert_allclose(found, exact, atol=4 * np.sqrt(0.25 / 20_000))


def test_p_agrees_with_that_of_scipy():
    rng = np.random.default_rng(2)
    b = rng.random((30, 3))
    a = b + rng.normal([0.02, 0.06, 0.1], 0.2, (30, 3))
    theirs = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=30_000,
        vectorized=True,
        rng=0,
    ).pvalue
    ours = compare(np.stack([a, b]), [(0, 1)], micro(30), Resamples(np.arange(30), 5), permutations=30_000).p[0, 0]
    assert theirs.min() < 0.1
    assert theirs.max() > 0.2
    np.testing.assert_allclose(ours, theirs, atol=0.015)


def test_without_a_difference_every_p_is_as_likely():
    rng = np.random.default_rng(5)
    found = []
    for seed in range(300):
        clusters = rng.integers(0, 30, 60)
        values = rng.random(60) + rng.normal(0, 0.3, (2, 30))[:, clusters]
        resamples = Resamples(clusters, 2)
        found.append(compare(values[:, :, None], [(0, 1)], micro(60), resamples, permutations=199, seed=seed).p.item())
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09


def test_systems_that_are_the_same_differ_in_nothing():
    rng = np.random.default_rng(0)
    n = 3000
    one = rng.integers(0, 11, (n, 5)) / 10
    first = np.arange(n) < n // 3
    other = np.where(first[:, None], one, rng.random((n, 5)))  # the same where it is first
    order = np.r_[rng.permutation(n // 3), n // 3 : n]
    label = rng.integers(0, 7, n)
    figures = Figures(np.r_[np.zeros(n), 1 + ~first], np.r_[label, np.zeros(n)], np.tile(np.arange(n), 2))
    found = compare(
        np.stack([one, one.copy(), other, one[order]]),
        [(0, 1), (0, 2), (0, 3)],
        figures,
        Resamples(np.arange(n), 200),
        permutations=300,
    )
    for pair, figure in ((0, 0), (0, 1), (0, 2), (1, 1)):
        for each, expected in zip(found, (0, 0, 0, 1), strict=True):
            assert (each[pair, figure] == expected).all()
    assert (found.difference[1, 2] != 0).all()
    # the same mean, added up in another order, of different answers: no difference, an interval around it, and every exchange is as large
    assert (found.difference[2, 1] == 0).all()
    assert (found.p[2, 1] == 1).all()
    assert (found.low[2, 1] < 0).all()
    assert (found.high[2, 1] > 0).all()


def test_pairing_makes_an_interval_short():
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    values = np.stack([hard + 0.02 + rng.normal(0, 0.01, 500), hard])[:, :, None]
    resamples = Resamples(np.arange(500))
    found = compare(values, [(0, 1), (1, 0)], micro(500), resamples, permutations=999)
    low, high = resamples.intervals(values[0], micro(500))
    assert (found.high[0] - found.low[0] < (high - low) / 10).all()
    assert (found.low[0] < found.difference[0]).all()
    assert (found.difference[0] < found.high[0]).all()
    np.testing.assert_allclose(found.low[1], -found.high[0])
    np.testing.assert_array_equal(found.p, 1 / 1000)


def test_one_patient_alone_proves_nothing():
    found = compare(np.array([[[1.0], [1.0]], [[0.0], [0.2]]]), [(0, 1)], micro(2), Resamples([4, 4]), permutations=99)
    assert found.difference.item() == pytest.approx(0.9)
    assert found.p.item() == 1
    assert np.isnan([found.low, found.high]).all()


# errors


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Figures([0, 0], [0], [0]), r"found figure \(2,\), cell \(1,\)"),
        (lambda: Figures([0], [0], [-1]), "position -1; expected none below 0"),
        (lambda: micro(3).means(np.zeros((2, 1))), "values of 2 queries; expected more than position 2"),
        (lambda: micro(3).means(np.zeros(3)), r"expected \(queries, columns\)"),
        (lambda: Resamples(np.zeros((2, 2))), "expected one dimension"),
        (lambda: Resamples(np.arange(3), 0), "count 0"),
        (lambda: Resamples(np.arange(3)).intervals(np.zeros((4, 1)), micro(3)), "4 queries; expected 3"),
        (lambda: compare(np.zeros((3, 1)), [], micro(3), Resamples(np.arange(3))), r"\(systems, queries, columns\)"),
        (lambda: compare(np.zeros((2, 3, 1)), [(0, 2)], micro(3), Resamples(np.arange(3))), "0 to 2; expected 0 to 1"),
    ],
)
def test_what_cannot_be_computed_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


# Holm


def test_holm_worked_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.9, 0.6]), [0.06, np.nan, 1, 1])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([np.nan])).all()


@settings(deadline=None)
@given(
    p=st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.012, 0.02, 0.04, 0.05, 0.3, 1.0]), max_size=12),
    alpha=st.floats(0.001, 0.6),
)
def test_holm_rejects_what_the_step_down_procedure_rejects(p, alpha):
    rejected, waiting = set(), sorted(range(len(p)), key=lambda i: p[i])
    while waiting and p[waiting[0]] * len(waiting) <= alpha:
        rejected.add(waiting.pop(0))
    adjusted = holm(p)
    assert {i for i in range(len(p)) if adjusted[i] <= alpha} == rejected
    assert (adjusted >= np.array(p)).all()


# the benchmark


def test_the_benchmark_runs(monkeypatch):
    from tests.bench import interval_speed

    for name, size in {"QUERIES": 800, "PATIENTS": 300, "LABELS": 5, "RESAMPLES": 50, "PERMUTATIONS": 50}.items():
        monkeypatch.setattr(interval_speed, name, size)
    assert "10 x 12 columns" in interval_speed.intervals()
    assert "45 pairs x 4 columns" in interval_speed.comparisons()
