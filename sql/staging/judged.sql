-- judged: the classes by which images of each kind are judged at $relevance.
--          label: their labels; region: their region, in whatever modality; modality: their modality;
--          modality_region: both together (a full label without its last part); label_in_region: their labels, among images of their region;
--          '': none is asked, all are of one class
-- reads    kinds
-- returns  one row a kind: (kind, classes: sorted, class_set: equal where classes are, pool: images of another pool are neither
--          candidates nor neighbors; '' where there is one for all)
-- edges    no label, or an unknown region or modality: no class; such an image can be found, and is not relevant
SELECT kind,
       list_filter(
           CASE $relevance
               WHEN '' THEN ['all']
               WHEN 'label' THEN labels
               WHEN 'label_in_region' THEN labels
               WHEN 'region' THEN [region]
               WHEN 'modality' THEN [modality]
               WHEN 'modality_region' THEN CASE WHEN 'unknown' IN (modality, region) THEN [] ELSE [modality || '/' || region] END
           END,
           lambda class: class <> 'unknown') AS classes,
       (dense_rank() OVER (ORDER BY classes))::INTEGER AS class_set,
       CASE WHEN $relevance = 'label_in_region' THEN region ELSE '' END AS pool
FROM kinds
