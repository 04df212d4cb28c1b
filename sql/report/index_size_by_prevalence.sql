-- index_size_by_prevalence: P@k against the size of the gallery, for queries with rare, middling and common labels, at the smallest k.
-- reads    scaling_curves
-- returns  one row a curve and size (see scaling_curves.sql), at label relevance
SELECT slice, average, encoder, index, sampling, k, gallery_size, is_extrapolation, value, low, high, ci_low, ci_high, chance, seeds,
       n_queries, n_vanished, model, parameters
FROM scaling_curves
WHERE metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'prevalence'
  AND k = (SELECT min(k) FROM scaling_curves WHERE metric = 'precision_at_k')
ORDER BY list_position(['rare', 'middle', 'common'], slice), average DESC, encoder, index, sampling, gallery_size
