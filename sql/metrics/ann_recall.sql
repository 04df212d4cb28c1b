-- ann_recall: share of the exact first $k neighbors that the index found among its own first $k.
--          |exact top k  and  found top k| / |exact top k|
-- reads    compared(query_key: queries that were embedded), neighbors, exact_neighbors(query_key, neighbor_key, rank)
-- returns  one row a query that has an exact neighbor: (query_key, value in [0, 1])
-- edges    equally near neighbors: the one with the smaller key is the exact one, so recall errs on the low side
-- differs  not recall in the sense of TREC: nothing is said of relevance
SELECT c.query_key, count(n.neighbor_key) / count(*)::DOUBLE AS value
FROM compared AS c
JOIN exact_neighbors AS x ON x.query_key = c.query_key AND x.rank <= $k
LEFT JOIN neighbors AS n ON n.query_key = x.query_key AND n.neighbor_key = x.neighbor_key AND n.rank <= $k
GROUP BY c.query_key
