-- slices: P@$k of the queries in each slice, of the search that stands for each encoder.
--          gain = value - chance; lift = value / chance: how many times more often than in a random order a neighbor is right
-- reads    metrics, searches
-- returns  one row a slice and encoder: (slice, encoder, index, value, chance, gain, lift?, n_queries, n_failed), micro, of question 1
-- edges    no relevant image in the gallery: chance is 0 and lift NULL
SELECT m.slice, m.encoder, m.index, m.value, m.chance,
       m.value - m.chance AS gain, CASE WHEN m.chance > 0 THEN m.value / m.chance END AS lift, m.n_queries, m.n_failed
FROM metrics AS m
JOIN searches AS s USING (encoder, index)
WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.relevance = $relevance
  AND m.slice_by = $slice_by AND m.average = 'micro' AND m.k = $k
ORDER BY m.slice, m.encoder
