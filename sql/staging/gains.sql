-- gains: how many gallery images a query could find at each overlap.
-- reads    queries, gallery, sets, matches, barred
-- returns  one row a query and overlap: (query_key, overlap in (0, 1], images > 0)
-- edges    no relevant image in the gallery: no row
-- how      images with the same classes count together, so the work is sets x sets, not queries x gallery
WITH query_sets AS (
    SELECT DISTINCT class_set, pool FROM queries
), totals AS (
    SELECT q.class_set, q.pool, m.overlap, sum(g.images)::BIGINT AS images
    FROM query_sets AS q
    JOIN matches AS m ON m.query_set = q.class_set
    JOIN sets AS g ON g.class_set = m.gallery_set AND g.pool = q.pool
    GROUP BY ALL
), barred_counts AS (
    SELECT b.query_key, m.overlap, count(*) AS images
    FROM barred AS b
    JOIN queries AS q USING (query_key)
    JOIN gallery AS g USING (image_key)
    JOIN matches AS m ON m.query_set = q.class_set AND m.gallery_set = g.class_set
    GROUP BY ALL
), less AS (
    SELECT q.query_key, t.overlap, t.images - coalesce(b.images, 0) AS images
    FROM queries AS q
    JOIN totals AS t USING (class_set, pool)
    LEFT JOIN barred_counts AS b USING (query_key, overlap)
)
SELECT query_key, overlap, images FROM less WHERE images > 0
