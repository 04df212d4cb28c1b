-- duplicates_at_k: share of the first $k neighbors that are copies of the query, equal or nearly so; they make retrieval look better than it is.
-- reads    queries(query_key), neighbors(query_key, neighbor_key, rank), duplicates(image_key, code: equal for copies of each other)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    an image without a copy has no row in duplicates; missing neighbors are no copies
WITH copies AS (
    SELECT n.query_key, n.rank
    FROM neighbors AS n
    JOIN duplicates AS q ON q.image_key = n.query_key
    JOIN duplicates AS g ON g.image_key = n.neighbor_key AND g.code = q.code
)
SELECT q.query_key, count(c.rank) / $k::DOUBLE AS value
FROM queries AS q
LEFT JOIN copies AS c ON c.query_key = q.query_key AND c.rank <= $k
GROUP BY q.query_key
