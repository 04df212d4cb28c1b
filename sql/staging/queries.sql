-- queries: the images that ask, and the classes in which each of them counts.
-- reads    manifest, query_keys(image_key: what the search's predicate selects, embedded or not), embedded(image_key)
-- returns  one row a query that can be judged at relevance $relevance:
--          (query_key, embedded, classes: the labels, or the region, or the modality, as a list)
-- edges    a query that was not embedded stays, and scores 0; a query without a label (region, modality 'unknown')
--          cannot be judged at that relevance and is left out: missing is not false
SELECT m.image_key AS query_key,
       e.image_key IS NOT NULL AS embedded,
       CASE $relevance WHEN 'label' THEN m.labels WHEN 'region' THEN [m.region] WHEN 'modality' THEN [m.modality] END AS classes
FROM manifest AS m
JOIN query_keys AS q USING (image_key)
LEFT JOIN embedded AS e USING (image_key)
WHERE len(classes) > 0 AND NOT list_contains(classes, 'unknown')
