-- figures: what is known of each average, one row of the dataset metrics.
-- reads    averaged(see averages.sql), sizes(see staging/sizes.sql), intervals(metric, k?, slice_by, slice, average, ci_low?, ci_high?)
-- returns  (metric, k?, slice_by, slice, average, value, std?, chance?, lift?, ci_low?, ci_high?, n_queries, n_failed, n_unanswerable, n_patients)
-- edges    chance 0 or unknown: no lift; curves over every k are of all levels of relevance over all queries, and of label for every slice
SELECT a.metric, a.k, a.slice_by, a.slice, a.average, a.value, a.std, a.chance,
       CASE WHEN a.chance > 0 THEN a.value / a.chance END AS lift,
       i.ci_low, i.ci_high, s.n_queries, s.n_failed, s.n_unanswerable, s.n_patients
FROM averaged AS a
JOIN sizes AS s USING (slice_by, slice)
LEFT JOIN intervals AS i ON i.metric = a.metric AND i.k IS NOT DISTINCT FROM a.k AND i.slice_by = a.slice_by AND i.slice = a.slice AND i.average = a.average
WHERE $relevance = 'label' OR a.slice_by = 'all' OR a.k IS NULL OR list_contains($ks, a.k)
ORDER BY a.metric, a.slice_by, a.slice, a.average, a.k
