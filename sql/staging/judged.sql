-- judged: every image with the classes by which it is judged at $relevance.
--          label: its labels; region: its region, in whatever modality; modality: its modality;
--          modality_region: both together (a full label without its last part); label_in_region: its labels, among images of its region
-- reads    manifest
-- returns  one row an image: (image_key, classes: sorted, each once, class_set: equal where classes are, pool: images of another pool
--          are neither candidates nor neighbors; '' where there is one for all)
-- edges    no label, or an unknown region or modality: no class; such an image can be found, and is not relevant
-- how      two steps: in one, a column "classes" of the manifest would be taken for the classes
WITH classed AS (
    SELECT image_key,
           list_sort(list_distinct(list_filter(
               CASE $relevance
                   WHEN 'label' THEN labels
                   WHEN 'label_in_region' THEN labels
                   WHEN 'region' THEN [region]
                   WHEN 'modality' THEN [modality]
                   WHEN 'modality_region' THEN CASE WHEN 'unknown' IN (modality, region) THEN [] ELSE [modality || '/' || region] END
               END,
               lambda x: x <> 'unknown'))) AS judged_by,
           CASE WHEN $relevance = 'label_in_region' THEN region ELSE '' END AS pool_of
    FROM manifest
)
SELECT image_key, judged_by AS classes, hash(judged_by) AS class_set, pool_of AS pool
FROM classed
