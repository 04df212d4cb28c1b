-- roc_auc: the area under the ROC curve: the share of (positive, negative) pairs in which the positive has the higher score, equal scores counting half.
--          micro: over all (query, label) pairs together; macro: mean over labels of the area among the queries
-- reads    score_counts(k, code, score, positives, negatives), outcomes(k, code), labels
-- returns  (k, metric, average, value, n_labels: labels in a macro mean; all of them for micro)
-- how      positives and negatives are counted per distinct score; what is not counted has score 0. Queries x labels never stand in one table
-- edges    macro leaves out labels that all queries or none of them have: they have no curve. No such pair at all: NULL
WITH counted AS (
    SELECT k, code, sum(positives) AS positives, sum(negatives) AS negatives FROM score_counts GROUP BY k, code
), all_scores AS (
    SELECT k, code, score, positives, negatives FROM score_counts
    UNION ALL
    SELECT o.k, o.code, 0, l.positives - coalesce(c.positives, 0), l.negatives - coalesce(c.negatives, 0)
    FROM outcomes AS o
    JOIN labels AS l USING (code)
    LEFT JOIN counted AS c USING (k, code)
), pooled AS (
    SELECT k, code AS pool, score, sum(positives)::DOUBLE AS positives, sum(negatives)::DOUBLE AS negatives FROM all_scores GROUP BY k, code, score
    UNION ALL
    SELECT k, 0, score, sum(positives)::DOUBLE, sum(negatives)::DOUBLE FROM all_scores GROUP BY k, score
), ranked AS (
    SELECT k, pool, positives, negatives, sum(positives) OVER (PARTITION BY k, pool ORDER BY score DESC) - positives / 2 AS above FROM pooled
), areas AS (
    SELECT k, pool, sum(negatives * above) / nullif(sum(positives) * sum(negatives), 0) AS area FROM ranked GROUP BY k, pool
)
SELECT k, 'roc_auc' AS metric, 'micro' AS average, any_value(area) AS value, (SELECT count(*) FROM labels) AS n_labels
FROM areas WHERE pool = 0 GROUP BY k
UNION ALL
SELECT k, 'roc_auc', 'macro', avg(area), count(area) FROM areas WHERE pool > 0 GROUP BY k
