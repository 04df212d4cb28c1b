-- asked: every query of a search, embedded or not.
-- reads    manifest, kinds, query_keys(image_key), embedded(image_key)
-- returns  one row a query: (query_key, embedded, kind)
SELECT m.image_key AS query_key, e.image_key IS NOT NULL AS embedded, k.kind
FROM manifest AS m
SEMI JOIN query_keys AS q USING (image_key)
JOIN kinds AS k ON k.labels = list_sort(list_distinct(m.labels)) AND k.region = m.region AND k.modality = m.modality
LEFT JOIN embedded AS e USING (image_key)
