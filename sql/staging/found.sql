-- found: the relevant ones among the neighbors of each query, counted from the nearest.
-- reads    hits
-- returns  one row a relevant neighbor: (query_key, rank, overlap, n_found: relevant neighbors up to this rank, this one included)
SELECT query_key, rank, overlap, row_number() OVER (PARTITION BY query_key ORDER BY rank) AS n_found
FROM hits
WHERE is_relevant
