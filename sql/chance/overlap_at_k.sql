-- chance of overlap_at_k: its expected value when the candidates come in random order.
--          mean overlap of the candidates, times min(k, n_candidates) / k where there are fewer candidates than k
-- reads    candidates(query_key, n_candidates, overlap)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no candidate at all: 0
SELECT query_key, CASE WHEN n_candidates = 0 THEN 0 ELSE overlap / n_candidates * least($k, n_candidates) / $k END AS chance
FROM candidates
