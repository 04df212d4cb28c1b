-- recall_at_k: share of all relevant images that are among the first $k neighbors (TREC: recall_k).    R@k = |relevant in the top k| / R
-- reads    queries(query_key), found(query_key, rank), candidates(query_key, n_relevant)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    R = 0: 0; R > $k: 1 cannot be reached
-- differs  in much of the image retrieval literature "recall@k" is hit_rate_at_k; how many neighbors an index loses is ann_recall
SELECT q.query_key, count(f.rank) / greatest(1, any_value(c.n_relevant))::DOUBLE AS value
FROM queries AS q
JOIN candidates AS c ON c.query_key = q.query_key
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= $k
GROUP BY q.query_key
