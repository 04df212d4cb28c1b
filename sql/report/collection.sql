-- collection: what the manifest holds, in one row.
-- reads    manifest
-- returns  (images, patients, studies, modalities, regions, datasets: lists, ascending; labels, unlabeled)
-- edges    patients and studies count what the source names, 0 where it names none; the same id in two datasets is two of them; 'unknown' is no modality and no region
SELECT count(*) AS images,
       count(DISTINCT (dataset, patient_id)) FILTER (WHERE patient_id IS NOT NULL) AS patients,
       count(DISTINCT (dataset, study_id)) FILTER (WHERE study_id IS NOT NULL) AS studies,
       coalesce(list_sort(list(DISTINCT modality) FILTER (WHERE modality <> 'unknown')), []) AS modalities,
       coalesce(list_sort(list(DISTINCT region) FILTER (WHERE region <> 'unknown')), []) AS regions,
       coalesce(list_sort(list(DISTINCT dataset)), []) AS datasets,
       (SELECT count(DISTINCT label) FROM (SELECT unnest(labels) AS label FROM manifest)) AS labels,
       count(*) FILTER (WHERE len(labels) = 0) AS unlabeled
FROM manifest
