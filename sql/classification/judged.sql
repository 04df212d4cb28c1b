-- judged: the queries that a classifier is judged on.
-- reads    manifest, query_keys(image_key: those that ask, embedded or not), embedded(image_key)
-- returns  one row a query: (query_key, embedded, labels)
-- edges    a query without a label cannot be judged and is left out: missing is not false. A query that was not embedded stays: no label
--          has a score for it, and every one of its own is missed. A label in unknown_labels counts as absent, as in retrieval
-- differs  Denner et al. 2024 leave out queries without a vector, and those whose label no gallery image has
SELECT m.image_key AS query_key, e.image_key IS NOT NULL AS embedded, m.labels
FROM manifest AS m
JOIN query_keys USING (image_key)
LEFT JOIN embedded AS e USING (image_key)
WHERE len(m.labels) > 0
