-- label_ranks: the labels of one encoder with their places in the per-label chart and in the tables of best and worst.
-- reads    slices(see slices.sql)
-- returns  one row a label, by value: (slice, value, chance, lift?, n_queries, n_failed, place, places, best?, worst?)
-- edges    no relevant image in the gallery: no lift, and neither among the best nor the worst; equal lifts: best the larger
--          gain over chance, worst the larger chance, then the more queries
SELECT slice, value, chance, lift, n_queries, n_failed,
       row_number() OVER (ORDER BY value DESC, chance, n_queries DESC, slice) AS place,
       count(*) OVER () AS places,
       CASE WHEN lift IS NOT NULL THEN row_number() OVER (ORDER BY lift DESC NULLS LAST, value - chance DESC, n_queries DESC, slice) END AS best,
       CASE WHEN lift IS NOT NULL THEN row_number() OVER (ORDER BY lift NULLS LAST, chance DESC, n_queries DESC, slice) END AS worst
FROM slices
WHERE encoder = $encoder
ORDER BY place
