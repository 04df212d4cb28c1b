-- leaderboard: one row a search, the best encoder first.
--          p<k> = P@k at label relevance over all queries; *_chance = the same of a gallery in random order, at k = 1
--          ann_recall = at the largest k up to 10 that every approximate search has; where they have none in common, at the largest of its own: ann_recall_k
-- reads    metrics, searches(see searches.sql)
-- returns  one row an encoder and index: columns as named below; NULL where the study has no such figure
-- order    by question; then the encoders by the best P@1 micro of their searches that are not through an index (of the first search, where all are); then
--          in the searches' turn: exact before approximate
-- edges    no label in the study: encoders are ordered by P@1 at region, then at modality
WITH recalls AS (
    SELECT m.encoder, m.index, m.k, m.value
    FROM metrics AS m
    SEMI JOIN searches AS s ON s.encoder = m.encoder AND s.index = m.index
    WHERE m.metric = 'ann_recall' AND m.slice_by = 'all' AND m.k <= 10
), of_all AS (
    SELECT max(k) AS k
    FROM (SELECT k FROM recalls GROUP BY k HAVING count(*) = (SELECT count(DISTINCT (encoder, index)) FROM recalls))
), recall AS (
    SELECT encoder, index, max_by(value, k) AS ann_recall, max(k) AS ann_recall_k
    FROM recalls
    WHERE k = (SELECT k FROM of_all) OR (SELECT k FROM of_all) IS NULL
    GROUP BY encoder, index
), wide AS (
    SELECT s.question, s.encoder, s.index, s.approximate, s.random_weights, s.dim, s.turn,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 1) AS p1_micro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 3) AS p3_micro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 5) AS p5_micro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 10) AS p10_micro,
           any_value(m.chance) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 1) AS chance_micro,
           any_value(m.ci_low) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 1) AS p1_micro_low,
           any_value(m.ci_high) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'micro' AND m.k = 1) AS p1_micro_high,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'macro' AND m.k = 1) AS p1_macro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'macro' AND m.k = 3) AS p3_macro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'macro' AND m.k = 5) AS p5_macro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'macro' AND m.k = 10) AS p10_macro,
           any_value(m.chance) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.average = 'macro' AND m.k = 1) AS chance_macro,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'region' AND m.average = 'micro' AND m.k = 1) AS region_p1,
           any_value(m.chance) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'region' AND m.average = 'micro' AND m.k = 1) AS region_chance,
           any_value(m.value) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'modality' AND m.average = 'micro' AND m.k = 1) AS modality_p1,
           any_value(m.chance) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'modality' AND m.average = 'micro' AND m.k = 1) AS modality_chance,
           any_value(r.ann_recall) AS ann_recall,
           any_value(r.ann_recall_k) AS ann_recall_k,
           any_value(m.gallery_size) AS gallery_size,
           any_value(m.n_queries) FILTER (WHERE m.metric = 'precision_at_k' AND m.relevance = 'label' AND m.k = 1) AS n_judged,
           s.queries_asked AS n_queries,
           s.not_embedded AS n_failed
    FROM searches AS s
    LEFT JOIN metrics AS m ON m.encoder = s.encoder AND m.index = s.index AND m.slice_by = 'all'
    LEFT JOIN recall AS r ON r.encoder = s.encoder AND r.index = s.index
    GROUP BY ALL
)
SELECT * EXCLUDE (turn)
FROM wide
ORDER BY question,
         coalesce(max(coalesce(p1_micro, region_p1, modality_p1)) FILTER (WHERE NOT approximate) OVER (PARTITION BY question, encoder),
                  first_value(coalesce(p1_micro, region_p1, modality_p1)) OVER (PARTITION BY question, encoder ORDER BY turn)) DESC NULLS LAST,
         encoder, turn
