-- reciprocal_rank: how near the first relevant neighbor is (its mean over queries is MRR).    RR = 1 / rank of the first relevant neighbor
-- reads    queries(query_key), found(query_key, rank)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    none among the neighbors that the search went: 0
SELECT q.query_key, coalesce(1 / min(f.rank)::DOUBLE, 0) AS value
FROM queries AS q
LEFT JOIN found AS f ON f.query_key = q.query_key
GROUP BY q.query_key
