-- chance of average_precision: its expected value when the candidates come in random order.
--          of N candidates R are relevant; with d = min(depth, N) and H = 1 + 1/2 + ... + 1/d:
--          (H + (R - 1) / (N - 1) * (d - H)) / N, since a candidate is relevant with R / N, and each one before a relevant one with (R - 1) / (N - 1)
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
WITH kinds AS (
    SELECT DISTINCT n_candidates AS n, n_relevant AS m, least($depth, n_candidates)::BIGINT AS d FROM candidates WHERE n_relevant > 0
), sums AS (
    SELECT *, list_sum(list_transform(range(1, d + 1), lambda i: 1 / i::DOUBLE)) AS h FROM kinds
)
SELECT query_key, coalesce((h + (m - 1) / greatest(1, n - 1)::DOUBLE * (d - h)) / n, 0) AS chance
FROM candidates
LEFT JOIN sums ON n = n_candidates AND m = n_relevant
