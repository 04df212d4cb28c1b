-- chance of recall_at_k: its expected value when the candidates come in random order.    min(k, n_candidates) / n_candidates
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
SELECT query_key, CASE WHEN n_relevant = 0 THEN 0 ELSE least($k, n_candidates) / n_candidates::DOUBLE END AS chance
FROM candidates
