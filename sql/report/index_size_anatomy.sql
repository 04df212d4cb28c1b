-- index_size_anatomy: P@k of the same neighbors against the size of the gallery, judged by pathology and by anatomy, at the smallest k.
-- reads    scaling_curves
-- returns  one row a curve and size (see scaling_curves.sql), micro, over all queries
SELECT relevance, encoder, index, sampling, k, gallery_size, is_extrapolation, value, low, high, ci_low, ci_high, chance, seeds, n_queries,
       model, parameters
FROM scaling_curves
WHERE metric = 'precision_at_k' AND slice_by = 'all' AND average = 'micro'
  AND k = (SELECT min(k) FROM scaling_curves WHERE metric = 'precision_at_k')
ORDER BY list_position(['label', 'label_in_region', 'modality_region', 'region', 'modality'], relevance), encoder, index, sampling, gallery_size
