-- hits: what each query found, and whether it is right.
-- reads    queries, gallery, neighbors(query_key, neighbor_key, rank)
-- returns  one row a query and rank: (query_key, rank, is_relevant)
-- relevant shares at least one class with the query: for single-label images, has the same label
-- edges    a neighbor that is not in the gallery is an error that sql/checks/neighbors_in_gallery.sql finds
SELECT n.query_key, n.rank, list_has_any(q.classes, g.classes) AS is_relevant
FROM neighbors AS n
JOIN queries AS q USING (query_key)
JOIN gallery AS g ON g.image_key = n.neighbor_key
