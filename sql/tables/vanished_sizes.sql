-- vanished_sizes: how many queries are left out of the figures of each slice of a sample.
-- reads    slices (of all that can be judged), vanished(query_key)
-- returns  one row a slice: (slice_by, slice, n_vanished)
SELECT slice_by, slice, count(v.query_key) AS n_vanished
FROM slices
LEFT JOIN vanished AS v USING (query_key)
GROUP BY slice_by, slice
