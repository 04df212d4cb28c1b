-- same_patient: queries whose nearest neighbor is an image of the same patient.
-- reads    neighbors, manifest
-- returns  one row: (queries: with a neighbor and a patient_id, same_patient)
SELECT count(*) AS queries, count(*) FILTER (WHERE q.patient_id = g.patient_id AND q.dataset = g.dataset) AS same_patient
FROM neighbors AS n
JOIN manifest AS q ON q.image_key = n.query_key
JOIN manifest AS g ON g.image_key = n.neighbor_key
WHERE n.rank = 1 AND q.patient_id IS NOT NULL
