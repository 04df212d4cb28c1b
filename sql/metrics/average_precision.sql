-- average_precision: mean of the precision at each relevant image (its mean over queries is MAP).
--          AP = 1 / R * sum over relevant neighbors of (relevant up to its rank / its rank),  R = relevant images in the gallery
-- reads    queries(query_key), found(query_key, rank, n_found), candidates(query_key, n_relevant)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    R = 0: 0; relevant images beyond the neighbors that the search went add 0, so AP is that of a list cut at the search's depth
-- differs  Mahbod et al. 2024 divide by the hits found: average_precision_over_hits_at_k
SELECT q.query_key, coalesce(sum(f.n_found / f.rank::DOUBLE), 0) / greatest(1, any_value(c.n_relevant)) AS value
FROM queries AS q
JOIN candidates AS c ON c.query_key = q.query_key
LEFT JOIN found AS f ON f.query_key = q.query_key
GROUP BY q.query_key
