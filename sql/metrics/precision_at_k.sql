-- precision_at_k: share of the first $k neighbors that are relevant.    P@k = |relevant in the top k| / k
-- reads    queries(query_key), found(query_key, rank)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    fewer than $k neighbors: the missing ones are misses; none at all, or a query not embedded: 0, never NULL
-- differs  Denner et al. 2024 divide by min($k, relevant images in the gallery): precision_at_k_capped
SELECT q.query_key, count(f.rank) / $k::DOUBLE AS value
FROM queries AS q
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= $k
GROUP BY q.query_key
