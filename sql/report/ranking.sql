-- ranking: encoders by P@$k of their exact searches of one $question at relevance $relevance, each held against the best.
--          difference = value - value of the best, with its interval; p_holm = p_value after Holm's correction over n_tests comparisons
--          differs = p_holm < 0.05: the encoder can be told from the best
-- reads    metrics, comparisons, searches(see searches.sql), ranked(encoder): those that are asked about
-- returns  one row an encoder: (rank, encoder, value, ci_low?, ci_high?, macro, macro_low?, macro_high?, chance?, lift?, n_queries, n_failed, n_unanswerable,
--          n_patients, gallery_size, random_weights, is_best, difference?, difference_low?, difference_high?, p_value?, p_holm?, n_tests?, differs?)
-- order    by the micro mean of P@$k; equal ones have one rank, and the first of them by name is the best
-- edges    no comparison (one encoder, --resamples 0, searches of another depth): NULL from difference on, as in the row of the best
WITH figures AS (
    SELECT m.*, s.random_weights
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    SEMI JOIN ranked AS r ON r.encoder = m.encoder
    WHERE s.question = $question AND s.turn = 1 AND s.is_exact AND m.metric = 'precision_at_k' AND m.relevance = $relevance AND m.k = $k AND m.slice_by = 'all'
), best AS (
    SELECT encoder FROM figures WHERE average = 'micro' ORDER BY value DESC, encoder LIMIT 1
), compared AS (
    SELECT c.*
    FROM comparisons AS c
    SEMI JOIN figures AS a ON a.encoder = c.encoder_a AND a.index = c.index_a
    SEMI JOIN figures AS b ON b.encoder = c.encoder_b AND b.index = c.index_b
    WHERE metric = 'precision_at_k' AND relevance = $relevance AND k = $k
      AND slice_by = 'all' AND average = 'micro'
), held AS (
    SELECT encoder_a AS encoder, encoder_b AS other, difference, ci_low, ci_high, p_value, p_holm, n_tests FROM compared
    UNION ALL
    SELECT encoder_b, encoder_a, -difference, -ci_high, -ci_low, p_value, p_holm, n_tests FROM compared
)
SELECT rank() OVER (ORDER BY micro.value DESC) AS rank,
       micro.encoder, micro.value, micro.ci_low, micro.ci_high, macro.value AS macro, macro.ci_low AS macro_low, macro.ci_high AS macro_high,
       micro.chance, micro.lift, micro.n_queries, micro.n_failed, micro.n_unanswerable, micro.n_patients, micro.gallery_size,
       micro.random_weights, micro.encoder = best.encoder AS is_best,
       h.difference, h.ci_low AS difference_low, h.ci_high AS difference_high, h.p_value, h.p_holm, h.n_tests, h.p_holm < 0.05 AS differs
FROM figures AS micro
JOIN figures AS macro ON macro.encoder = micro.encoder AND macro.average = 'macro'
CROSS JOIN best
LEFT JOIN held AS h ON h.encoder = micro.encoder AND h.other = best.encoder
WHERE micro.average = 'micro'
ORDER BY rank, micro.encoder
