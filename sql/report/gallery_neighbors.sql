-- gallery_neighbors: the chosen queries with what they found.
-- reads    chosen(query_key), hits(query_key, rank, is_relevant), neighbors, manifest
-- returns  one row a query and rank: (query_key, rank, distance, is_relevant, image_id, uri, labels, modality, region)
SELECT h.query_key, h.rank, n.distance, h.is_relevant, m.image_id, m.uri, m.labels, m.modality, m.region
FROM chosen AS c
JOIN hits AS h USING (query_key)
JOIN neighbors AS n USING (query_key, rank)
JOIN manifest AS m ON m.image_key = n.neighbor_key
ORDER BY h.query_key, h.rank
