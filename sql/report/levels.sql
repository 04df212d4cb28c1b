-- levels: P@1 of the same neighbors, judged at each level of relevance, anatomy first.
-- reads    metrics, searches
-- returns  (relevance, encoder, index, value, chance, n_queries) of question 1, micro
SELECT m.relevance, m.encoder, m.index, m.value, m.chance, m.n_queries
FROM metrics AS m
JOIN searches AS s USING (encoder, index)
WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.slice_by = 'all' AND m.average = 'micro' AND m.k = 1
ORDER BY list_position(['modality', 'region', 'modality_region', 'label', 'label_in_region'], m.relevance), m.value DESC, m.encoder
