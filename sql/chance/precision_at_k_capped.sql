-- chance of precision_at_k_capped: its expected value when the candidates come in random order.    n_relevant / n_candidates, at every k
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no candidate at all: 0
SELECT query_key, CASE WHEN n_candidates = 0 THEN 0 ELSE n_relevant / n_candidates::DOUBLE END AS chance
FROM candidates
