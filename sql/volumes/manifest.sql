-- manifest: volumes, as the manifest's slices make them.
--           labels: a finding that any slice has; unknown_labels: one that no slice has, and of which some slice does not know. The volume's picture (uri) is
--           that of its middle slice. modality and region are 'unknown', study_id is NULL, where slices differ
-- reads    manifest: of the study of images
-- returns  one row a volume: (image_id, uri, dataset, split, patient_id?, study_id?, modality, region, labels, unknown_labels, volume_id, slice: NULL,
--          n_slices, n_splits, n_patients), ordered by image_id
-- edges    images without a volume_id are no slices; ids of volumes are a dataset's own
WITH whole AS (
    SELECT dataset, volume_id, count(*) AS n_slices,
           list(uri ORDER BY slice NULLS LAST, image_id)[count(*) // 2 + 1] AS uri,
           min(split) AS split, count(DISTINCT split) AS n_splits,
           min(patient_id) AS patient_id, count(DISTINCT patient_id) AS n_patients,
           CASE WHEN count(DISTINCT study_id) = 1 THEN min(study_id) END AS study_id,
           CASE WHEN count(DISTINCT modality) = 1 THEN min(modality) ELSE 'unknown' END AS modality,
           CASE WHEN count(DISTINCT region) = 1 THEN min(region) ELSE 'unknown' END AS region,
           list_sort(list_distinct(flatten(list(labels)))) AS labels,
           list_sort(list_distinct(flatten(list(unknown_labels)))) AS doubted
    FROM manifest WHERE volume_id IS NOT NULL GROUP BY dataset, volume_id
)
SELECT CASE WHEN starts_with(volume_id, dataset || '/') THEN volume_id ELSE dataset || '/' || volume_id END AS image_id, uri, dataset, split,
       patient_id, study_id, modality, region, labels, list_filter(doubted, lambda label: NOT list_contains(labels, label)) AS unknown_labels,
       volume_id, NULL::INTEGER AS slice, n_slices, n_splits, n_patients
FROM whole
ORDER BY image_id
