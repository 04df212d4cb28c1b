-- index_sizes: P@k at label relevance against the size of the gallery.
--          value, sd = mean and standard deviation (n - 1) over the samples of one size, one a seed; extrapolated sizes: the chosen curve and its interval
-- reads    scaling, fits
-- returns  (encoder, index, sampling, gallery_size, average, k, value, sd?, n_seeds?, ci_low?, ci_high?, is_extrapolation)
-- edges    samples of whole patients differ a little in size from seed to seed: sizes are matched by their place, and gallery_size is their mean;
--          one seed: no sd
WITH placed AS (
    SELECT *, dense_rank() OVER (PARTITION BY encoder, index, sampling, seed ORDER BY gallery_size) AS place
    FROM scaling
    WHERE metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'all'
)
SELECT encoder, index, sampling, round(avg(gallery_size))::BIGINT AS gallery_size, average, k, avg(value) AS value, stddev_samp(value) AS sd,
       count(*) AS n_seeds, NULL::DOUBLE AS ci_low, NULL::DOUBLE AS ci_high, false AS is_extrapolation
FROM placed
WHERE list_contains($ks, k)
GROUP BY encoder, index, sampling, average, k, place
UNION ALL
SELECT encoder, index, sampling, gallery_size, average, k, value, NULL, NULL, ci_low, ci_high, true
FROM fits
WHERE is_chosen AND is_extrapolation AND metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'all' AND list_contains($ks, k)
ORDER BY encoder, index = 'exact' DESC, index, sampling, is_extrapolation, gallery_size, average DESC, k
