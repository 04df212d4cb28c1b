-- judged: the queries that Denner et al. 2024 judge: those with a vector and one label that some gallery image has.
-- reads    manifest, query_keys(image_key), embedded(image_key), gallery_keys(image_key)
-- returns  one row a query: (query_key, embedded: true, labels)
-- differs  the others vanish in silence there (0 / 0 is NaN, which pandas skips); classification/judged.sql counts them as wrong
SELECT m.image_key AS query_key, true AS embedded, m.labels
FROM manifest AS m
JOIN query_keys USING (image_key)
JOIN embedded USING (image_key)
WHERE len(m.labels) = 1
  AND m.labels[1] IN (SELECT unnest(g.labels) FROM manifest AS g JOIN gallery_keys USING (image_key) JOIN embedded USING (image_key))
