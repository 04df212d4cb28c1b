-- index_sizes: P@k at label relevance against the size of the gallery.
--          value, sd = mean and standard deviation (n - 1) over the samples of one size, one a seed; extrapolated sizes: the chosen curve and its interval
-- reads    scaling_curves(see scaling_curves.sql)
-- returns  (encoder, index, sampling, gallery_size, average, k, value, sd?, n_seeds, ci_low?, ci_high?, is_extrapolation)
-- edges    one seed, or an extrapolated size: no sd
SELECT encoder, index, sampling, gallery_size, average, k, value, sd, seeds AS n_seeds, ci_low, ci_high, is_extrapolation
FROM scaling_curves
WHERE metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'all' AND list_contains($ks, k)
ORDER BY encoder, index = 'exact' DESC, index, sampling, is_extrapolation, gallery_size, average DESC, k
