-- fit_lines: what the chosen curves let expect of larger galleries, for $metric by label at each encoder's least k over all queries; of exact search where there is one.
-- reads    fits
-- returns  one row an encoder of $encoders, index, sampling and size beyond those studied:
--          (encoder, index, sampling, k?, gallery_size, value, ci_low?, ci_high?, model, n_sizes)
SELECT encoder, index, sampling, k, gallery_size, value, ci_low, ci_high, model, n_sizes
FROM fits
WHERE is_chosen AND is_extrapolation AND metric = $metric AND relevance = 'label' AND slice_by = 'all' AND average = 'micro'
  AND (index = 'exact' OR NOT EXISTS (SELECT 1 FROM fits AS e WHERE e.index = 'exact' AND e.encoder = fits.encoder AND e.sampling = fits.sampling))
  AND k IS NOT DISTINCT FROM (SELECT min(k) FROM fits AS f WHERE f.metric = $metric AND f.encoder = fits.encoder) AND list_contains($encoders, encoder)
ORDER BY encoder, index, sampling, gallery_size
