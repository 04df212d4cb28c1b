-- chance of hit_rate_at_k: its expected value when the candidates come in random order.
--          1 - C(N - R, k) / C(N, k): one less the share of draws of k among N candidates that hold none of the R relevant ones
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0; fewer than k candidates that are not relevant: 1
WITH kinds AS (
    SELECT DISTINCT n_candidates, n_relevant FROM candidates
), chances AS (
    SELECT *, CASE WHEN n_relevant = 0 THEN 0
                   ELSE 1 - list_product(list_transform(range(0, least($k, n_candidates)::BIGINT),
                                                        lambda i: greatest(0, n_candidates - n_relevant - i) / (n_candidates - i)::DOUBLE)) END AS chance
    FROM kinds
)
SELECT query_key, chance FROM candidates JOIN chances USING (n_candidates, n_relevant)
