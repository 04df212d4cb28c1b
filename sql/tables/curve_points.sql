-- curve_points: the figures of samples that a curve against the gallery's size is fitted to.
-- reads    scaling
-- returns  one row a curve, size and seed: (curve: from 1, encoder, index, sampling, metric, relevance, k?, slice_by, slice, average, sample_size, seed,
--          gallery_size, value), ordered by curve, sample_size, seed; of each curve every seed at every size
-- edges    a size at which more than $most_vanished of the queries have nothing to find, of any seed, is of other queries, and is left out;
--          so is a seed that lacks a size
WITH points AS (
    SELECT dense_rank() OVER (ORDER BY encoder, index, sampling, metric, relevance, k, slice_by, slice, average) AS curve,
           encoder, index, sampling, metric, relevance, k, slice_by, slice, average, sample_size, seed, gallery_size, value,
           n_vanished / (n_queries + n_vanished) AS vanished
    FROM scaling
    WHERE slice_by IN ('all', 'prevalence') AND metric <> 'ann_recall'
), sizes AS (
    SELECT curve, sample_size FROM points GROUP BY curve, sample_size HAVING max(vanished) <= $most_vanished
), usable AS (
    SELECT p.* EXCLUDE (vanished), count(*) OVER (PARTITION BY curve, seed) AS sizes_of_seed FROM points AS p SEMI JOIN sizes USING (curve, sample_size)
)
SELECT * EXCLUDE (sizes_of_seed, sizes)
FROM usable
JOIN (SELECT curve, count(*) AS sizes FROM sizes GROUP BY curve) AS s USING (curve)
WHERE sizes_of_seed = s.sizes
ORDER BY curve, sample_size, seed
