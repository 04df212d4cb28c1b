-- hits: what each query found, and whether it is right.
-- reads    queries, gallery, matches, ranked(query_key, neighbor_key, rank: the neighbors, or those of the query's own pool)
-- returns  one row a query and rank: (query_key, neighbor_key, rank, is_relevant, overlap: 0 where it is not)
-- relevant shares at least one class with the query: for single-label images, has the same label
-- edges    a neighbor that is not in the gallery is an error that sql/checks/neighbors_in_gallery.sql finds
SELECT n.query_key, n.neighbor_key, n.rank, m.overlap IS NOT NULL AS is_relevant, coalesce(m.overlap, 0) AS overlap
FROM ranked AS n
JOIN queries AS q USING (query_key)
JOIN gallery AS g ON g.image_key = n.neighbor_key
LEFT JOIN matches AS m ON m.query_set = q.class_set AND m.gallery_set = g.class_set
