-- judged: every image with the classes by which it is judged at $relevance.
--          label: its labels; region: its region, in whatever modality; modality: its modality;
--          modality_region: both together (a full label without its last part); label_in_region: its labels, among images of its region
-- reads    manifest
-- returns  one row an image: (image_key, classes: sorted, each once, class_set: equal where classes are, pool: images of another pool
--          are neither candidates nor neighbors; '' where there is one for all)
-- edges    no label, or an unknown region or modality: no class; such an image can be found, and is not relevant
SELECT image_key,
       list_sort(list_distinct(list_filter(
           CASE $relevance
               WHEN 'label' THEN labels
               WHEN 'label_in_region' THEN labels
               WHEN 'region' THEN [region]
               WHEN 'modality' THEN [modality]
               WHEN 'modality_region' THEN CASE WHEN 'unknown' IN (modality, region) THEN [] ELSE [modality || '/' || region] END
           END,
           lambda class: class <> 'unknown'))) AS classes,
       hash(classes) AS class_set,
       CASE WHEN $relevance = 'label_in_region' THEN region ELSE '' END AS pool
FROM manifest
