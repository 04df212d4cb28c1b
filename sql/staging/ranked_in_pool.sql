-- ranked_in_pool: the neighbors of each query that are of its own pool, ranked anew.
-- reads    neighbors, queries, gallery
-- returns  one row a neighbor that stays: (query_key, neighbor_key, rank from 1)
-- edges    neighbors end at the search's depth, so that fewer of the pool may be known than there are: sql/checks say how often
SELECT n.query_key, n.neighbor_key, row_number() OVER (PARTITION BY n.query_key ORDER BY n.rank) AS rank
FROM neighbors AS n
JOIN queries AS q USING (query_key)
JOIN gallery AS g ON g.image_key = n.neighbor_key
WHERE q.pool = g.pool
