-- index_size_by_label: P@k of each label's queries against the size of the gallery, at the smallest k.
-- reads    scaling_curves
-- returns  one row a curve and size (see scaling_curves.sql), micro; place = of the label, by its change: value at its largest size less that
--          at its smallest, the mean over the curves; labels with fewer than ten queries come last, and those with one size after them
WITH curves AS (
    SELECT * FROM scaling_curves
    WHERE metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'label' AND average = 'micro'
      AND k = (SELECT min(k) FROM scaling_curves WHERE metric = 'precision_at_k')
), ends AS (
    SELECT slice, max(n_queries) AS queries, count(DISTINCT gallery_size) AS sizes,
           arg_max(value, gallery_size) - arg_min(value, gallery_size) AS change
    FROM curves WHERE NOT is_extrapolation
    GROUP BY encoder, index, sampling, slice
), changes AS (
    SELECT slice, avg(change ORDER BY change) AS change, max(queries) AS queries, max(sizes) AS sizes FROM ends GROUP BY slice
), places AS (
    SELECT slice, change, row_number() OVER (ORDER BY sizes = 1, queries < 10, abs(change) DESC, slice) AS place FROM changes
)
SELECT place, slice, change, encoder, index, sampling, k, gallery_size, is_extrapolation, value, low, high, ci_low, ci_high, chance, seeds,
       n_queries, model, parameters
FROM curves JOIN places USING (slice)
ORDER BY place, encoder, index, sampling, gallery_size
