-- curve_points: the figures of samples that a curve against the gallery's size is fitted to.
-- reads    scaling, vanished
-- returns  one row a curve, size and seed: (curve: from 1, encoder, index, sampling, metric, relevance, k?, slice_by, slice, average, sample_size, seed,
--          gallery_size, value), ordered by curve, sample_size, seed; of each curve every seed at every size
-- edges    a size at which more than $most_vanished of the queries have nothing to find, of any seed, is of other queries, and is left out;
--          so is, of a macro mean, a size that has lost a class whole, of any seed, be its queries ever so few: the mean is over other classes.
--          A slice whose queries are all there has all of their classes. A seed that lacks a size is left out, too
WITH gone AS (
    SELECT DISTINCT encoder, sampling, sample_size, relevance FROM vanished WHERE is_gone
), points AS (
    SELECT dense_rank() OVER (ORDER BY encoder, index, sampling, metric, relevance, k, slice_by, slice, average) AS curve,
           encoder, index, sampling, metric, relevance, k, slice_by, slice, average, sample_size, seed, gallery_size, value,
           n_vanished / (n_queries + n_vanished) AS vanished, average = 'macro' AND n_vanished > 0 AND g.encoder IS NOT NULL AS lacks_a_class
    FROM scaling
    LEFT JOIN gone AS g USING (encoder, sampling, sample_size, relevance)
    WHERE slice_by IN ('all', 'prevalence') AND metric <> 'ann_recall'
), sizes AS (
    SELECT curve, sample_size FROM points GROUP BY curve, sample_size HAVING max(vanished) <= $most_vanished AND NOT bool_or(lacks_a_class)
), usable AS (
    SELECT p.* EXCLUDE (vanished, lacks_a_class), count(*) OVER (PARTITION BY curve, seed) AS sizes_of_seed FROM points AS p SEMI JOIN sizes USING (curve, sample_size)
)
SELECT * EXCLUDE (sizes_of_seed, sizes)
FROM usable
JOIN (SELECT curve, count(*) AS sizes FROM sizes GROUP BY curve) AS s USING (curve)
WHERE sizes_of_seed = s.sizes
ORDER BY curve, sample_size, seed
