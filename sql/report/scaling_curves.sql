-- scaling_curves: how a figure changes with the size of the gallery, and what its fit expects of larger ones.
-- reads    scaling, fits
-- returns  one row a curve and size; a curve: (encoder, index, sampling, metric, relevance, k?, slice_by, slice, average)
--          measured: value = mean over the samples of that size; sd = their standard deviation (n - 1); low, high = the least and the greatest of them
--          (NULL for one sample); ci_low, ci_high = the outer ends of their intervals over patients; chance, n_queries, n_vanished = means over them
--          is_extrapolation: value, ci_low, ci_high = what the chosen fit predicts, beyond the largest sample; model, parameters = that fit
--          seeds = samples behind the row; gallery_size = the mean over all samples of that size, since samples of whole patients are not all of one
--          size: one number for all curves of a search, also those of a label that some of the samples lack
WITH samples AS (
    SELECT DISTINCT encoder, index, sampling, sample_size, seed, gallery_size FROM scaling
), sizes AS (
    SELECT encoder, index, sampling, sample_size, round(avg(gallery_size))::BIGINT AS gallery_size
    FROM samples
    GROUP BY encoder, index, sampling, sample_size
), measured AS (
    SELECT s.encoder, s.index, s.sampling, s.metric, s.relevance, s.k, s.slice_by, s.slice, s.average, s.sample_size,
           false AS is_extrapolation, avg(s.value ORDER BY s.seed) AS value, stddev_samp(s.value ORDER BY s.seed) AS sd,
           CASE WHEN count(*) > 1 THEN min(s.value) END AS low, CASE WHEN count(*) > 1 THEN max(s.value) END AS high,
           min(s.ci_low) AS ci_low, max(s.ci_high) AS ci_high, avg(s.chance ORDER BY s.seed) AS chance, count(*) AS seeds,
           round(avg(s.n_queries))::BIGINT AS n_queries, round(avg(s.n_vanished))::BIGINT AS n_vanished
    FROM scaling AS s
    GROUP BY s.encoder, s.index, s.sampling, s.metric, s.relevance, s.k, s.slice_by, s.slice, s.average, s.sample_size
), expected AS (
    SELECT encoder, index, sampling, metric, relevance, k, slice_by, slice, average, gallery_size,
           is_extrapolation, value, ci_low, ci_high, n_seeds AS seeds, model, parameters
    FROM fits
    WHERE is_chosen AND is_extrapolation
)
SELECT * EXCLUDE (sample_size) FROM measured JOIN sizes USING (encoder, index, sampling, sample_size)
UNION ALL BY NAME
FROM expected
