-- chance of precision_at_k: its expected value when the candidates come in random order.
--          E[P@k] = n_relevant / n_candidates, times min(k, n_candidates) / k where there are fewer candidates than k
-- reads    candidates(query_key, n_candidates, n_relevant)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no candidate at all: 0
SELECT query_key,
       CASE WHEN n_candidates = 0 THEN 0.0::DOUBLE
            ELSE n_relevant / n_candidates::DOUBLE * least($k, n_candidates) / $k::DOUBLE END AS chance
FROM candidates
