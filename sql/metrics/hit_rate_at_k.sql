-- hit_rate_at_k: whether any of the first $k neighbors is relevant (TREC: success_k).    1 if |relevant in the top k| > 0, else 0
-- reads    queries(query_key), found(query_key, rank)
-- returns  one row a query: (query_key, value 0 or 1)
-- edges    no neighbor: 0
-- differs  the same as ACC@k of Mahbod et al. 2024, and as "recall@k" or "top-k accuracy" of papers on image retrieval
SELECT q.query_key, (count(f.rank) > 0)::DOUBLE AS value
FROM queries AS q
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= $k
GROUP BY q.query_key
