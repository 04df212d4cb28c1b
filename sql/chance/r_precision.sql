-- chance of r_precision: its expected value when the candidates come in random order.    min(R, depth) / n_candidates, R = n_relevant
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no relevant candidate: 0
SELECT query_key, CASE WHEN n_relevant = 0 THEN 0 ELSE least(n_relevant, $depth) / n_candidates::DOUBLE END AS chance
FROM candidates
