-- candidates: how many gallery images a query may find, and how many of those are relevant.
-- reads    queries, sets, barred, gains
-- returns  one row a query: (query_key, n_candidates, n_relevant, overlap: sum of the overlaps of all candidates)
-- edges    no relevant image in the gallery: n_relevant is 0, and the query stays (it can only score 0)
WITH pools AS (
    SELECT pool, sum(images)::BIGINT AS images FROM sets GROUP BY pool
), barred_counts AS (
    SELECT query_key, count(*) AS images FROM barred GROUP BY query_key
), relevant AS (
    SELECT query_key, sum(images)::BIGINT AS images, sum(overlap * images) AS overlap FROM gains GROUP BY query_key
)
SELECT q.query_key,
       coalesce(p.images, 0) - coalesce(b.images, 0) AS n_candidates,
       coalesce(r.images, 0) AS n_relevant,
       coalesce(r.overlap, 0) AS overlap
FROM queries AS q
LEFT JOIN pools AS p USING (pool)
LEFT JOIN barred_counts AS b USING (query_key)
LEFT JOIN relevant AS r USING (query_key)
