-- leaderboard_forest: P@k of every encoder with its interval, at the smallest k, the best first.
-- reads    metrics, searches(see searches.sql)
-- returns  one row an encoder and average: its figure over all queries, by the search that stands for it in question 1, of `questions`;
--          at label relevance where there is one, else region, else modality
WITH figures AS (
    SELECT s.question, s.is_exact, m.*
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k' AND m.slice_by = 'all' AND m.seed IS NULL
      AND m.relevance IN ('label', 'region', 'modality')
)
SELECT question, (SELECT max(question) FROM searches) AS questions, encoder, index, is_exact, relevance, k, average, value, ci_low, ci_high,
       chance, n_queries, n_patients, gallery_size
FROM figures
WHERE relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM figures)
  AND k = (SELECT min(k) FROM figures)
ORDER BY average DESC, value DESC, encoder
