-- precision_at_every_k: P@k for every k, of the search that stands for each encoder.
-- reads    metrics, searches(see searches.sql)
-- returns  one row an encoder, average and k: its figure over all queries, of question 1, of `questions`; at label relevance where there is one,
--          else region, else modality
WITH figures AS (
    SELECT s.question, s.is_exact, m.*
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.slice_by = 'all' AND m.seed IS NULL
      AND m.relevance IN ('label', 'region', 'modality')
)
SELECT question, (SELECT max(question) FROM searches) AS questions, relevance, average, encoder, index, is_exact, k, value, chance, n_queries
FROM figures
WHERE relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM figures)
ORDER BY average DESC, encoder, k
