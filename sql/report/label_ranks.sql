-- label_ranks: the labels of one encoder with their places in the per-label chart and in the tables of best and worst.
-- reads    slices(see slices.sql)
-- returns  one row a label, by value: (slice, value, chance, gain, lift?, n_queries, n_failed, place, places, best?, worst?)
-- edges    no relevant image in the gallery: neither among the best nor the worst, because no encoder could find one; equal
--          gains: the label with more queries first
SELECT slice, value, chance, gain, lift, n_queries, n_failed,
       row_number() OVER (ORDER BY value DESC, chance, n_queries DESC, slice) AS place,
       count(*) OVER () AS places,
       CASE WHEN chance > 0 THEN row_number() OVER (ORDER BY chance = 0, gain DESC, n_queries DESC, slice) END AS best,
       CASE WHEN chance > 0 THEN row_number() OVER (ORDER BY chance = 0, gain, n_queries DESC, slice) END AS worst
FROM slices
WHERE encoder = $encoder
ORDER BY place
