-- candidates: how many gallery images a query may find, and how many of those are relevant.
-- reads    queries, gallery, barred
-- returns  one row a query: (query_key, n_candidates, n_relevant)
-- edges    no relevant image in the gallery: n_relevant is 0, and the query stays (it can only score 0)
-- how      images with the same classes count together, so the work is classes x classes, not queries x gallery
WITH query_sets AS (
    SELECT DISTINCT list_sort(classes) AS query_set FROM queries
), gallery_sets AS (
    SELECT list_sort(classes) AS gallery_set, count(*) AS images FROM gallery GROUP BY ALL
), totals AS (
    SELECT query_set, coalesce(sum(images) FILTER (WHERE list_has_any(query_set, gallery_set)), 0) AS relevant
    FROM query_sets
    LEFT JOIN gallery_sets ON true
    GROUP BY query_set
), barred_counts AS (
    SELECT b.query_key, count(*) AS images, count(*) FILTER (WHERE list_has_any(q.classes, g.classes)) AS relevant
    FROM barred AS b
    JOIN queries AS q USING (query_key)
    JOIN gallery AS g USING (image_key)
    GROUP BY b.query_key
)
SELECT q.query_key,
       (SELECT count(*) FROM gallery) - coalesce(b.images, 0) AS n_candidates,
       t.relevant - coalesce(b.relevant, 0) AS n_relevant
FROM queries AS q
JOIN totals AS t ON t.query_set = list_sort(q.classes)
LEFT JOIN barred_counts AS b USING (query_key)
