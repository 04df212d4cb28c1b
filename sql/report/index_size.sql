-- index_size: P@k against the size of the gallery, and what the fit expects of larger galleries.
-- reads    scaling_curves
-- returns  one row a curve and size (see scaling_curves.sql), at label relevance where there is one, else region, else modality
SELECT encoder, index, sampling, relevance, slice_by, average, k, gallery_size, is_extrapolation, value, low, high, ci_low, ci_high,
       chance, seeds, n_queries, n_vanished, model, parameters
FROM scaling_curves
WHERE metric = 'precision_at_k' AND slice_by = 'all'
  AND relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM scaling_curves
                   WHERE relevance IN ('label', 'region', 'modality'))
ORDER BY slice_by, average DESC, k, encoder, index, sampling, gallery_size
