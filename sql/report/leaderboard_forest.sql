-- leaderboard_forest: P@k of every encoder with its interval, at the smallest k, the best first.
-- reads    metrics, runs
-- returns  one row an encoder and average: its figure over all queries, by its exact search or, where there is none, an approximate one; of
--          the question (gallery, queries, exclusions) that most encoders were searched for, the one with more queries where several were;
--          at label relevance where there is one, else region, else modality
WITH searches AS (
    SELECT encoder, index, parameters->>'index' = 'exact' AS is_exact,
           parameters->>'gallery' AS gallery, parameters->>'queries' AS queries, parameters->>'exclude_same' AS exclusions
    FROM runs
    WHERE dataset = 'neighbors'
), figures AS (
    SELECT m.*, s.is_exact, s.gallery, s.queries, s.exclusions
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    WHERE m.metric = 'precision_at_k' AND m.slice_by = 'all' AND m.seed IS NULL AND m.relevance IN ('label', 'region', 'modality')
), judged AS (
    SELECT * FROM figures
    WHERE relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM figures)
      AND k = (SELECT min(k) FROM figures)
), question AS (
    SELECT gallery, queries, exclusions FROM judged
    GROUP BY ALL
    ORDER BY count(DISTINCT encoder) FILTER (WHERE is_exact) DESC, count(DISTINCT encoder) DESC, max(n_queries) DESC, exclusions, gallery, queries
    LIMIT 1
)
SELECT encoder, index, relevance, k, average, value, ci_low, ci_high, chance, n_queries, n_patients, gallery_size
FROM judged SEMI JOIN question USING (gallery, queries, exclusions)
QUALIFY row_number() OVER (PARTITION BY encoder, average ORDER BY is_exact DESC, index <> 'exact', index) = 1
ORDER BY average DESC, value DESC, encoder
