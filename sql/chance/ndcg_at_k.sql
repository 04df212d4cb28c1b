-- chance of ndcg_at_k: its expected value when the candidates come in random order.
--          n_relevant / n_candidates * D(min(k, n_candidates)) / D(min(k, n_relevant)),  D(n) = sum over r = 1 .. n of 1 / log2(r + 1)
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
WITH discounts AS (
    SELECT r, sum(1 / log2(r + 1)) OVER (ORDER BY r) AS total FROM (SELECT unnest(range(1, $k + 1)) AS r)
)
SELECT c.query_key, coalesce(c.n_relevant / c.n_candidates::DOUBLE * a.total / i.total, 0) AS chance
FROM candidates AS c
LEFT JOIN discounts AS a ON a.r = least($k, c.n_candidates)
LEFT JOIN discounts AS i ON i.r = least($k, c.n_relevant)
