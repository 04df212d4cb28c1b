-- kinds: images that are judged alike whatever the level: with the same labels, region and modality.
-- reads    manifest, query_keys(image_key), gallery_keys(image_key): what the search's predicates select
-- returns  one row a kind: (kind: from 1, labels: sorted, each once, region, modality)
-- how      a million images are of some hundred kinds, and everything that is asked of labels is asked of kinds
SELECT row_number() OVER ()::INTEGER AS kind, labels, region, modality
FROM (
    SELECT DISTINCT list_sort(list_distinct(m.labels)) AS labels, m.region, m.modality
    FROM manifest AS m
    SEMI JOIN (SELECT image_key FROM query_keys UNION ALL SELECT image_key FROM gallery_keys) AS k USING (image_key)
)
