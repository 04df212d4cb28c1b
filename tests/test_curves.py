"""Curves against gallery size: scipy's least squares as oracle, choice, extrapolation, intervals, and points that belong to other queries."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from cbmir.sampled.curves import MOST_VANISHED, fits_of
from cbmir.sampled.scoring import DRAWS
from cbmir.schemas import METRICS, VANISHED, check
from cbmir.statistics.curves import MODELS, choose, fit_logarithmic, fit_power

POWER, LOGARITHMIC = MODELS
SIZES = np.array([1_000.0, 2_000, 4_000, 8_000, 16_000])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_power_curves_are_the_least_squares_that_scipy_finds(seed):
    """From several starts, ceiling within 0..1: scipy's residual is never smaller."""
    rng = np.random.default_rng(seed)
    ceiling, scale, exponent = rng.uniform(0.2, 1), rng.uniform(-3, 3), rng.uniform(0.05, 1)
    values = np.clip(ceiling - scale * SIZES**-exponent + rng.normal(0, 0.01, 5), 0, 1)
    found = fit_power(SIZES, values[:, None])[:, 0]
    mine = ((found[0] - found[1] * SIZES ** -found[2] - values) ** 2).sum()
    bounds = ([0, -np.inf, 0.01], [1, np.inf, 5])
    best = min(
        2 * least_squares(lambda p: p[0] - p[1] * (SIZES / 4_000) ** -p[2] - values, [0.5, 0.1, start], bounds=bounds).cost
        for start in (0.05, 0.3, 1, 3)
    )  # fmt: skip
    assert 0 <= found[0] <= 1
    assert mine <= best * (1 + 1e-5) + 1e-12


def test_a_curve_without_noise_is_found_again():
    values = 0.8 - 4 * SIZES**-0.3
    assert fit_power(SIZES, values[:, None])[:, 0] == pytest.approx([0.8, 4, 0.3], rel=1e-4)
    assert fit_logarithmic(SIZES, (0.1 + 0.12 * np.log10(SIZES))[:, None])[:, 0] == pytest.approx([0.1, 0.12])
    assert POWER.predict(np.array([[0.8], [4], [0.3]]), np.array([1e6]))[0, 0] == pytest.approx(0.8 - 4 * 1e6**-0.3)


def test_logarithmic_is_polyfit():
    values = np.random.default_rng(0).uniform(0, 1, (5, 7))
    np.testing.assert_allclose(fit_logarithmic(SIZES, values)[::-1], np.polyfit(np.log10(SIZES), values, 1))


def test_predictions_stay_between_0_and_1():
    assert LOGARITHMIC.predict(np.array([[0.5], [0.3]]), np.array([1e9]))[0, 0] == 1
    assert LOGARITHMIC.predict(np.array([[0.5], [-0.3]]), np.array([1e9]))[0, 0] == 0


def test_the_model_that_foretells_the_largest_size_is_chosen():
    assert choose(SIZES, 0.8 - 4 * SIZES**-0.3) is POWER
    assert choose(SIZES, 0.1 + 0.12 * np.log10(SIZES)) is LOGARITHMIC
    assert choose(SIZES[:3], np.array([0.1, 0.2, 0.3])) is LOGARITHMIC
    assert choose(SIZES[:2], np.array([0.1, 0.2])) is None
    assert choose(SIZES[[0, 0, 0, 0]], np.full(4, 0.9)) is None
    assert choose(SIZES[[0, 1, 2, 2]], np.array([0.1, 0.2, 0.3, 0.3])) is LOGARITHMIC


def samples(
    values: np.ndarray,
    *,
    sizes: np.ndarray = SIZES,
    vanished: dict[int, int] | None = None,
    gone: tuple[int, ...] = (),
    spread: float = 0.01,
    **names,
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """values (sizes, seeds) -> rows of scaling, of vanished, and the draws, normally distributed around each value.

    vanished: sample size -> queries of each figure that have; gone: sample sizes at which seed 0 has lost a class.
    """
    rng = np.random.default_rng(0)
    rows, draws = [], []
    for i, (asked, size) in enumerate(
        zip(SIZES.astype(int).tolist(), sizes[: len(values)].astype(int).tolist(), strict=False)
    ):
        for seed, value in enumerate(values[i].tolist()):
            curve = {
                "encoder": "e", "index": "exact", "sampling": "random", "metric": "precision_at_k", "relevance": "label", "k": 1,
                "slice_by": "all", "slice": "all", "average": "micro",
            } | names  # fmt: skip
            row = dict.fromkeys(METRICS.names) | curve | {
                "value": value, "n_queries": 1_000, "n_failed": 0, "n_unanswerable": 0, "n_patients": 1_000, "gallery_size": size, "seed": seed,
                "sample_size": asked, "n_vanished": (vanished or {}).get(asked, 0),
            }  # fmt: skip
            rows.append(row)
            draws.append(curve | {"seed": seed, "sample_size": asked, "drawn": value + rng.normal(0, spread, 400)})
    kinds = pa.schema(
        [*DRAWS, *(METRICS.field(name) for name in ("encoder", "index", "sampling", "seed", "sample_size"))]
    )
    lost = [
        {"encoder": "e", "sampling": "random", "seed": 0, "sample_size": size, "gallery_size": size, "relevance": "label", "label": "rare",
         "n_queries": 2, "is_gone": True}
        for size in gone
    ]  # fmt: skip
    return (
        pa.Table.from_pylist(rows, schema=METRICS),
        pa.Table.from_pylist(lost, schema=VANISHED),
        pa.Table.from_pylist(draws, schema=kinds),
    )


def test_fits_are_marked_where_they_extrapolate_and_their_intervals_widen():
    truth = (0.8 - 4 * SIZES**-0.3)[:, None] + np.random.default_rng(1).normal(0, 0.004, (5, 4))
    fits = check(fits_of(*samples(truth), at=None), "fits").to_pandas()
    chosen = fits[fits["is_chosen"]]
    assert set(fits["model"]) == {"power", "logarithmic"}
    assert chosen["gallery_size"].tolist() == [*SIZES, 32_000, 64_000, 160_000]
    assert chosen["is_extrapolation"].tolist() == [False] * 5 + [True] * 3
    width = (chosen["ci_high"] - chosen["ci_low"]).to_numpy()
    assert (chosen["ci_low"] <= chosen["value"]).all()
    assert (chosen["value"] <= chosen["ci_high"]).all()
    assert width[7] > width[6] > width[5] > width[3]
    assert (chosen["n_sizes"] == 5).all()
    assert (chosen["n_seeds"] == 4).all()
    power = fits[(fits["model"] == "power") & fits["is_extrapolation"]]
    expected = 0.8 - 4 * power["gallery_size"].to_numpy(float) ** -0.3
    assert ((power["ci_low"] <= expected) & (expected <= power["ci_high"])).all()
    assert fits_of(*samples(truth), at=(50_000, 1_000)).to_pandas()["gallery_size"].unique().tolist() == [
        *SIZES,
        50_000,
    ]


def test_a_size_that_has_lost_queries_is_no_point_of_the_curve():
    values = np.repeat((0.8 - 4 * SIZES**-0.3)[:, None], 3, axis=1)
    values[0] = 0.99  # of the few queries that are left
    lost = {1_000: 100, 2_000: int(MOST_VANISHED * 1_000) - 1}
    fits = fits_of(*samples(values, vanished=lost), at=(32_000,)).to_pandas()
    assert (fits["n_sizes"] == 4).all()
    assert fits["gallery_size"].min() == 2_000
    assert fits[fits["model"] == "power"]["rmse"].max() < 1e-6


@pytest.mark.parametrize("k", [1, None])
def test_a_macro_mean_that_has_lost_a_class_is_no_point_of_the_curve(k):
    """Two queries of a thousand: far fewer than a micro mean may lose, and a whole class to a macro mean."""
    values = np.repeat((0.8 - 4 * SIZES**-0.3)[:, None], 3, axis=1)
    lost = {"vanished": {1_000: 2, 2_000: 2}, "gone": (1_000,), "k": k}
    sizes = {
        (average, part): fits_of(*samples(values, average=average, slice_by="prevalence", slice=part, **kept), at=None).to_pandas()["gallery_size"].min()
        for average in ("micro", "macro")
        for part, kept in (("rare", lost), ("common", lost | {"vanished": {}}))
    }  # fmt: skip
    assert sizes == {("micro", "rare"): 1_000, ("macro", "rare"): 2_000, ("micro", "common"): 1_000, ("macro", "common"): 1_000}  # fmt: skip


def test_sizes_that_come_to_one_sample_are_one_point():
    """Samples of whole patients within one large patient: four sizes asked for, of which three are the same."""
    same = np.array([200.0, 200, 200, 900, 4_000])
    values = np.repeat(np.array([0.5, 0.5, 0.5, 0.6, 0.7])[:, None], 3, axis=1)
    fits = fits_of(*samples(values, sizes=same), at=None).to_pandas()
    assert (fits["n_sizes"] == 3).all()
    assert set(fits["model"]) == {"logarithmic"}, "three points are too few for the power curve"
    alone = fits_of(*samples(values[2:], sizes=same[2:]), at=None).to_pandas()
    assert fits["value"].tolist() == alone["value"].tolist()
    assert fits[["ci_low", "ci_high"]].notna().all(axis=None)
    for seeds in (1, 3):
        flat = np.full((4, seeds), 0.9)
        assert len(fits_of(*samples(flat, sizes=np.full(4, 500.0)), at=None)) == 0, "one point is no curve"
        assert len(fits_of(*samples(flat, sizes=np.array([500.0, 500, 500, 900])), at=None)) == 0


def test_one_seed_has_the_interval_of_its_patients_and_no_draws_have_none():
    values = (0.1 + 0.12 * np.log10(SIZES))[:, None]
    scaling, nothing, draws = samples(values)
    one = fits_of(scaling, nothing, draws, at=None).to_pandas()
    assert one[["ci_low", "ci_high"]].notna().all(axis=None)
    assert (one["n_seeds"] == 1).all()
    none = fits_of(scaling, nothing, draws.slice(0, 0), at=None).to_pandas()
    assert none[["ci_low", "ci_high"]].isna().all(axis=None)
    assert none["value"].tolist() == one["value"].tolist()


def test_seeds_that_differ_widen_the_interval():
    values = np.repeat((0.1 + 0.12 * np.log10(SIZES))[:, None], 4, axis=1)
    apart = values + np.array([-0.05, 0.05, -0.03, 0.03])
    widths = []
    for each in (values, apart):
        fits = fits_of(*samples(each, spread=0.001), at=None).to_pandas()
        widths.append((fits["ci_high"] - fits["ci_low"]).mean())
    assert widths[1] > 5 * widths[0]


def test_a_seed_without_all_sizes_and_curves_without_k_are_told_apart():
    values = np.repeat((0.1 + 0.12 * np.log10(SIZES))[:, None], 3, axis=1)
    scaling, nothing, draws = samples(values)
    keep = [not (row["seed"] == 2 and row["sample_size"] == 4_000) for row in scaling.to_pylist()]
    assert set(fits_of(scaling.filter(keep), nothing, draws, at=None)["n_seeds"].to_pylist()) == {2}
    other, _, others = samples(values / 2, metric="average_precision", k=None)
    both = pa.concat_tables([scaling, other]), nothing, pa.concat_tables([draws, others])
    fits = fits_of(*both, at=None).to_pandas()
    means = fits.groupby("metric")["value"].max()
    assert means["precision_at_k"] == pytest.approx(2 * means["average_precision"], rel=0.2)
    assert fits[fits["metric"] == "average_precision"]["k"].isna().all()


def test_two_sizes_are_no_curve():
    assert len(fits_of(*samples(np.full((2, 3), 0.5)), at=None)) == 0
    assert len(fits_of(*samples(np.full((5, 3), 0.5), slice_by="label", slice="a"), at=None)) == 0
