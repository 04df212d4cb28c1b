-- slice_sizes: how many queries and patients the figures of a comparison are of.
-- reads    slices, patients
-- returns  one row a slice: (slice_by, slice, n_queries, n_patients)
SELECT slice_by, slice, count(*) AS n_queries, count(DISTINCT patient) AS n_patients
FROM slices
JOIN patients USING (query_key)
GROUP BY slice_by, slice
