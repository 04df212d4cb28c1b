"""What a query scores, by somebody else's code: trec_eval through ir_measures, scikit-learn, scipy, or plain Python written from the definitions in the papers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import comb, log2

import ir_measures
import numpy as np
from ir_measures import AP, RR, P, R, Rprec, Success, nDCG
from scipy.stats import hypergeom
from sklearn.metrics import ndcg_score

TREC = {
    "precision_at_k": lambda k: P @ k,
    "recall_at_k": lambda k: R @ k,
    "hit_rate_at_k": lambda k: Success @ k,
    "ndcg_at_k": lambda k: nDCG @ k,
    "reciprocal_rank": lambda k: RR,
    "average_precision": lambda k: AP,
    "r_precision": lambda k: Rprec,
}


def may_be_found(query: dict, rows: list[dict]) -> list[dict]:
    """The embedded gallery (split train, unless `gallery` says otherwise) without the query itself and what has its `code`."""
    return [
        row
        for row in rows
        if row.get("gallery", row["split"] == "train")
        and row["embedded"]
        and row["image_id"] != query["image_id"]
        and (query["code"] is None or row["code"] != query["code"])
    ]


def classes(row: dict, level: str) -> set[str]:
    """The classes by which an image is judged, from the words of the levels alone."""
    if level == "modality_region":
        both = (row["modality"], row["region"])
        return set() if "unknown" in both else {"/".join(both)}
    return set(row["labels"]) if level.startswith("label") else {row[level]} - {"unknown"}


@dataclass(frozen=True)
class Asked:
    """One query as it is judged: gains (Jaccard) of the ranked images in their order, and of those that it could have found but did not."""

    name: str
    classes: set[str]
    found: list[float]
    missed: list[float]
    found_classes: list[set[str]]

    @property
    def gains(self) -> list[float]:
        return self.found + self.missed

    @property
    def candidates(self) -> int:
        return len(self.gains)

    @property
    def relevant(self) -> int:
        return sum(gain > 0 for gain in self.gains)

    @property
    def hits(self) -> list[bool]:
        return [gain > 0 for gain in self.found]


def judged(rows: list[dict], found: dict[str, list[str]], level: str) -> list[Asked]:
    """rows: manifest columns, `embedded` and `code`; found: query -> gallery images in their order. Queries without a class are left out."""
    by_name = {row["image_id"]: row for row in rows}
    asked = []
    for name, ranked in found.items():
        query = by_name[name]
        mine = classes(query, level)
        if not mine or (level == "label_in_region" and query["region"] == "unknown"):
            continue
        pool = may_be_found(query, rows)
        if level == "label_in_region":
            pool = [row for row in pool if row["region"] == query["region"]]
        gains = {row["image_id"]: jaccard(mine, classes(row, level)) for row in pool}
        ranked = [image for image in ranked if image in gains]
        asked.append(
            Asked(name, mine, [gains[image] for image in ranked], [gains[image] for image in gains if image not in ranked],
                  [classes(by_name[image], level) for image in ranked])
        )  # fmt: skip
    return asked


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def trec(asked: list[Asked], metric: str, k: int) -> dict[str, float]:
    """trec_eval's value of each query."""
    qrels, run = [], []
    for query in asked:
        gains = [*query.found, *query.missed, 0.0]  # the last: trec_eval leaves out queries without a judged image
        qrels += [ir_measures.Qrel(query.name, f"d{i}", int(gain > 0)) for i, gain in enumerate(gains)]
        run += [ir_measures.ScoredDoc(query.name, f"d{i}", -float(i)) for i in range(len(query.found))]
    measure = TREC[metric](k)
    return {each.query_id: each.value for each in ir_measures.iter_calc([measure], qrels, run)}


def graded_ndcg(query: Asked, k: int) -> float:
    """scikit-learn's, which ranks every image: those that were not found stand behind k images without gain, where no cut sees them."""
    gains = np.array([[*query.found, *[0.0] * (k + 1), *query.missed]])
    return ndcg_score(gains, -np.arange(gains.size, dtype=float)[None], k=k, ignore_ties=True)


def denner_precision(query: Asked, k: int) -> float:
    """Denner et al. 2024: n = min(N, images of the class in the index); hits among the first n, divided by n."""
    n = min(k, query.relevant)
    return sum(query.hits[:n]) / n if n else 0.0


def mahbod_average_precision(query: Asked, k: int) -> float:
    """Mahbod et al. 2024: mean of the precision at each hit, divided by the hits found."""
    precisions = [sum(query.hits[: i + 1]) / (i + 1) for i, hit in enumerate(query.hits[:k]) if hit]
    return sum(precisions) / len(precisions) if precisions else 0.0


def mahbod_majority_vote(query: Asked, k: int) -> float:
    """Mahbod et al. 2024: 1 if the true label is among those tied for the most votes."""
    votes = Counter(label for labels in query.found_classes[:k] for label in labels)
    most = max(votes.values(), default=0)
    return float(any(votes[label] == most for label in query.classes if votes[label]))


def mean_overlap(query: Asked, k: int) -> float:
    return sum(query.found[:k]) / k


OURS = {
    "ndcg_overlap_at_k": graded_ndcg,
    "precision_at_k_capped": denner_precision,
    "average_precision_over_hits_at_k": mahbod_average_precision,
    "majority_vote_at_k": mahbod_majority_vote,
    "overlap_at_k": mean_overlap,
}


def dcg(gains: list[float], k: int) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains[:k], 1))


def expected_hits(query: Asked, draws: int) -> float:
    return min(draws, query.candidates) * query.relevant / query.candidates


def expected_precision_at_hits(hits: int, places: int) -> float:
    """Mean, over the hits, of the precision at each, when they stand anywhere among the places."""
    before = (hits - 1) / max(1, places - 1)  # share of the earlier places that are hits, seen from a hit
    return sum((1 + (i - 1) * before) / i for i in range(1, places + 1)) / places


def expected_ndcg(query: Asked, k: int, gains: list[float]) -> float:
    return sum(gains) / len(gains) * dcg([1.0] * len(gains), k) / dcg(sorted(gains, reverse=True), k)


def expected_first(query: Asked, depth: int) -> float:
    n, r = query.candidates, query.relevant
    return sum(comb(n - i, r - 1) / comb(n, r) / i for i in range(1, min(depth, n) + 1))


def expected_over_hits(query: Asked, k: int) -> float:
    places = min(k, query.candidates)
    drawn = hypergeom(query.candidates, query.relevant, places)
    return sum(float(drawn.pmf(h)) * expected_precision_at_hits(h, places) for h in range(1, places + 1))


def expected_average_precision(query: Asked, depth: int) -> float:
    n, r = query.candidates, query.relevant
    return sum((1 + (i - 1) * (r - 1) / max(1, n - 1)) / i for i in range(1, min(depth, n) + 1)) / n


# What a query with a relevant candidate is expected to score where candidates come in random order; (query, k), or (query, depth) where there is no k.
CHANCE: dict[str, Callable[[Asked, int], float]] = {
    "precision_at_k": lambda q, k: expected_hits(q, k) / k,
    "precision_at_k_capped": lambda q, k: expected_hits(q, min(k, q.relevant)) / min(k, q.relevant),
    "recall_at_k": lambda q, k: expected_hits(q, k) / q.relevant,
    "hit_rate_at_k": lambda q, k: 1 - float(hypergeom(q.candidates, q.relevant, min(k, q.candidates)).pmf(0)),
    "overlap_at_k": lambda q, k: sum(q.gains) / q.candidates * min(k, q.candidates) / k,
    "ndcg_at_k": lambda q, k: expected_ndcg(q, k, [float(gain > 0) for gain in q.gains]),
    "ndcg_overlap_at_k": lambda q, k: expected_ndcg(q, k, q.gains),
    "average_precision_over_hits_at_k": expected_over_hits,
    "reciprocal_rank": expected_first,
    "average_precision": expected_average_precision,
    "r_precision": lambda q, depth: expected_hits(q, min(q.relevant, depth)) / q.relevant,
}
