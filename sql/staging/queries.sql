-- queries: the images that ask, and the classes in which each of them counts.
-- reads    judged, query_keys(image_key: what the search's predicate selects, embedded or not), embedded(image_key)
-- returns  one row a query that can be judged: (query_key, embedded, classes, class_set, pool)
-- edges    a query that was not embedded stays, and scores 0; a query without a class (no label, region 'unknown')
--          cannot be judged at that relevance and is left out: missing is not false
SELECT j.image_key AS query_key, e.image_key IS NOT NULL AS embedded, j.classes, j.class_set, j.pool
FROM judged AS j
JOIN query_keys AS q USING (image_key)
LEFT JOIN embedded AS e USING (image_key)
WHERE len(j.classes) > 0 AND j.pool <> 'unknown'
