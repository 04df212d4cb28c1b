-- curves: P@k for every k, of the search that stands for each encoder.
-- reads    metrics, searches
-- returns  (encoder, index, average, k, value, chance) of question 1 at relevance $relevance, by k
SELECT m.encoder, m.index, m.average, m.k, m.value, m.chance
FROM metrics AS m
JOIN searches AS s USING (encoder, index)
WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.relevance = $relevance AND m.slice_by = 'all'
ORDER BY m.average, m.encoder, m.k
