-- chance of reciprocal_rank: its expected value when the candidates come in random order.
--          sum over ranks r up to the depth of 1 / r * C(N - r, R - 1) / C(N, R), the chance that the first of R relevant among N stands at r
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
WITH kinds AS (
    SELECT DISTINCT n_candidates AS n, n_relevant AS m FROM candidates WHERE n_relevant > 0
), chances AS (
    SELECT n, m, list_sum(list_transform(range(1, least($depth, n - m + 1) + 1),
               lambda r: exp(lgamma(n - r + 1) - lgamma(n - r - m + 2) + ln(m) + lgamma(n - m + 1) - lgamma(n + 1)) / r)) AS chance
    FROM kinds
)
SELECT query_key, coalesce(chance, 0) AS chance FROM candidates LEFT JOIN chances ON n = n_candidates AND m = n_relevant
