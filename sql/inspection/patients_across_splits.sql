-- patients_across_splits: patients with images in several splits, so that a query may find its own patient; patients count within their dataset.
-- reads    images(image_key, dataset, patient_id, split)
-- returns  one row a patient: (group_id, image_key: one of the patient's, detail)
WITH counts AS (
    SELECT dataset, patient_id, split, count(*) AS n, min(image_key) AS image_key
    FROM images
    WHERE patient_id IS NOT NULL
    GROUP BY ALL
)
SELECT NULL::BIGINT AS group_id, min(image_key) AS image_key,
       dataset || '/' || patient_id || ': ' || string_agg(split || ' ' || n, ', ' ORDER BY split) AS detail
FROM counts
GROUP BY dataset, patient_id
HAVING count(*) > 1
ORDER BY dataset, patient_id
