-- chance of average_precision_over_hits_at_k: its expected value when the candidates come in random order.
--          with d = min(k, N), H = 1 + 1/2 + ... + 1/d and h hits, which stand anywhere: (H + (h - 1) / (d - 1) * (d - H)) / d where h > 0;
--          the mean of h is d * R / N, and h > 0 with 1 - C(N - R, d) / C(N, d)
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
WITH kinds AS (
    SELECT DISTINCT n_candidates AS n, n_relevant AS m, least($k, n_candidates)::BIGINT AS d FROM candidates WHERE n_relevant > 0
), sums AS (
    SELECT n, m, d,
           list_sum(list_transform(range(1, d + 1), lambda i: 1 / i::DOUBLE)) AS h,
           1 - list_product(list_transform(range(0, d), lambda i: greatest(0, n - m - i) / (n - i)::DOUBLE)) AS any_hit
    FROM kinds
)
SELECT query_key, coalesce((any_hit * h + (d * m / n::DOUBLE - any_hit) / greatest(1, d - 1)::DOUBLE * (d - h)) / d, 0) AS chance
FROM candidates
LEFT JOIN sums ON n = n_candidates AND m = n_relevant
