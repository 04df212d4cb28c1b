-- gallery_matches: of the chosen queries and the shown ranks, the two slices that are nearest.
-- reads    chosen(query_key), matched_slices, slices(slice_key, slice?, place, uri): of the encoder whose slices were compared
-- returns  one row a query and rank: (query_key, rank, query_slice, query_uri, neighbor_slice, neighbor_uri, slice_distance)
-- edges    a slice without a number is called by its place in the volume; ranks beyond those that were matched have no row
SELECT m.query_key, m.rank, coalesce(q.slice, q.place) AS query_slice, q.uri AS query_uri,
       coalesce(n.slice, n.place) AS neighbor_slice, n.uri AS neighbor_uri, m.distance AS slice_distance
FROM matched_slices AS m
SEMI JOIN chosen AS c USING (query_key)
JOIN slices AS q ON q.slice_key = m.query_slice_key
JOIN slices AS n ON n.slice_key = m.neighbor_slice_key
WHERE m.match = 1
ORDER BY m.query_key, m.rank
