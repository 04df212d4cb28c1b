-- hits: what each query found, and whether it is right.
-- reads    ranked(query_key, rank, query_kind, kind: pairs, or pairs_in_pool), judged, matches
-- returns  one row a query that can be judged and rank: (query_key, rank, kind, is_relevant, overlap: 0 where it is not)
-- relevant shares at least one class with the query: for single-label images, has the same label
SELECT r.query_key, r.rank, r.kind, m.overlap IS NOT NULL AS is_relevant, coalesce(m.overlap, 0) AS overlap
FROM ranked AS r
JOIN judged AS q ON q.kind = r.query_kind AND len(q.classes) > 0 AND q.pool <> 'unknown'
JOIN judged AS g ON g.kind = r.kind
LEFT JOIN matches AS m ON m.query_set = q.class_set AND m.gallery_set = g.class_set
