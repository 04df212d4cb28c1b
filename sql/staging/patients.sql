-- patients: whose image a query is. What is resampled to give an interval, since images of one patient are no independent cases.
-- reads    manifest, query_keys
-- returns  one row a query: (query_key, patient: from 0, in the order of dataset and patient, then of image_key)
-- edges    an image without a patient is a patient of its own; patient '1' of one dataset is not patient '1' of another
SELECT q.image_key AS query_key,
       dense_rank() OVER (ORDER BY m.patient_id IS NULL, CASE WHEN m.patient_id IS NOT NULL THEN m.dataset END, m.patient_id,
                          CASE WHEN m.patient_id IS NULL THEN q.image_key END) - 1 AS patient
FROM query_keys AS q
JOIN manifest AS m USING (image_key)
