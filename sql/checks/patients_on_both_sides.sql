-- patients_on_both_sides: patients who have queries and gallery images that these may find; P@k then measures the patient as well.
-- reads    manifest, query_keys, gallery_keys; $patients_excluded: whether the search passes over images of the query's patient
-- returns  one row a patient: (query_key and neighbor_key: one image of each side, n_queries, n_gallery)
-- edges    images without a patient are not looked at; a patient whose only image is query and gallery image at once is none, since no
--          search returns the query itself
SELECT min(m.image_key) FILTER (WHERE q.image_key IS NOT NULL) AS query_key,
       max(m.image_key) FILTER (WHERE g.image_key IS NOT NULL) AS neighbor_key,
       count(q.image_key) AS n_queries, count(g.image_key) AS n_gallery
FROM manifest AS m
LEFT JOIN query_keys AS q USING (image_key)
LEFT JOIN gallery_keys AS g USING (image_key)
WHERE m.patient_id IS NOT NULL AND (q.image_key IS NOT NULL OR g.image_key IS NOT NULL) AND NOT $patients_excluded
GROUP BY m.dataset, m.patient_id
HAVING n_queries > 0 AND n_gallery > 0 AND count(*) > 1
ORDER BY n_queries DESC, query_key
