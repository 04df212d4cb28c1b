-- r_precision: share of the first R neighbors that are relevant, R = relevant images in the gallery (TREC: Rprec).
-- reads    queries(query_key), found(query_key, rank), candidates(query_key, n_relevant)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    R = 0: 0; R beyond the neighbors that the search went: the missing ones are misses
SELECT q.query_key, count(f.rank) / greatest(1, any_value(c.n_relevant))::DOUBLE AS value
FROM queries AS q
JOIN candidates AS c ON c.query_key = q.query_key
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= c.n_relevant
GROUP BY q.query_key
