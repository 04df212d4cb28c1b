-- pairs: what each query found, as kinds.
-- reads    neighbors(query_key, neighbor_key, rank), asked, held
-- returns  one row a query and rank: (query_key, rank, query_kind, kind)
-- edges    a neighbor that is not in the gallery is an error that sql/checks/neighbors_in_gallery.sql finds
SELECT n.query_key, n.rank, q.kind AS query_kind, g.kind
FROM neighbors AS n
JOIN asked AS q USING (query_key)
JOIN held AS g ON g.image_key = n.neighbor_key
