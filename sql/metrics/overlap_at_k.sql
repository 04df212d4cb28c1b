-- overlap_at_k: how much of their labels the first $k neighbors share with the query, on average.
--          1 / k * sum over the top k of |labels of both| / |labels of either|  (Jaccard)
-- reads    queries(query_key), found(query_key, rank, overlap)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    a missing neighbor, or one without a label, shares nothing; images with one label each: equal to precision_at_k
SELECT q.query_key, coalesce(sum(f.overlap), 0) / $k::DOUBLE AS value
FROM queries AS q
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= $k
GROUP BY q.query_key
