-- average_precision_over_hits_at_k: mean of the precision at each hit among the first $k neighbors ("mAP@5" of Mahbod et al. 2024).
--          1 / hits * sum over hits of (hits up to its rank / its rank)
-- reads    queries(query_key), found(query_key, rank, n_found)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    no hit: 0; one hit at rank 1 and none after it: 1, however many relevant images there are
-- differs  TREC's AP divides by all relevant images: average_precision
SELECT q.query_key, coalesce(avg(f.n_found / f.rank::DOUBLE), 0) AS value
FROM queries AS q
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= $k
GROUP BY q.query_key
