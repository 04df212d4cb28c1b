-- anatomy_and_pathology: P@k of the same neighbors, judged at each level of relevance, anatomy first, at the smallest k.
-- reads    metrics, searches(see searches.sql)
-- returns  one row a level and encoder: its figure over all queries, micro, by the search that stands for it in question 1, of `questions`
WITH figures AS (
    SELECT s.question, s.is_exact, m.*
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.slice_by = 'all' AND m.average = 'micro' AND m.seed IS NULL
)
SELECT question, (SELECT max(question) FROM searches) AS questions, relevance, encoder, index, is_exact, k, value, ci_low, ci_high, chance, n_queries
FROM figures
WHERE k = (SELECT min(k) FROM figures)
ORDER BY list_position(['modality', 'region', 'modality_region', 'label', 'label_in_region'], relevance), value DESC, encoder
