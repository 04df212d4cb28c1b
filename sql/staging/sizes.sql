-- sizes: of how many queries each figure is, and of what kind they are.
-- reads    slices, queries, candidates, patients
-- returns  one row a slice: (slice_by, slice, n_queries, n_failed, n_unanswerable: no gallery image is relevant, n_patients)
SELECT slice_by, slice, count(*) AS n_queries, count(*) FILTER (WHERE NOT embedded) AS n_failed,
       count(*) FILTER (WHERE n_relevant = 0) AS n_unanswerable, count(DISTINCT patient) AS n_patients
FROM slices
JOIN queries USING (query_key)
JOIN candidates USING (query_key)
JOIN patients USING (query_key)
GROUP BY slice_by, slice
