-- rates: accuracy, F1, precision and recall from how often each label is predicted and right, at each k.
--          accuracy = queries whose predicted label is one of theirs / queries
--          of a label: precision = hits / predicted, recall = hits / positives, F1 = 2 hits / (predicted + positives)
--          micro F1 = the same of the sums over labels; macro = mean over labels
-- reads    outcomes(k, code, predicted, hits), labels, judged
-- returns  (k, metric, average, value, n_labels: labels in a macro mean; all of them for micro)
-- edges    macro is over the labels that a judged query has, whatever is predicted, so that all k and encoders share them; a label that is never
--          predicted has precision 0. Nothing predicted for a query: its labels are missed, and no precision suffers
-- differs  scikit-learn averages also over labels that are predicted and true of no query (F1 0): as_published/rates.sql
WITH of_label AS (
    SELECT o.k, o.hits, o.predicted, l.positives,
           CASE WHEN o.predicted = 0 THEN 0.0::DOUBLE ELSE o.hits / o.predicted::DOUBLE END AS label_precision
    FROM outcomes AS o
    JOIN labels AS l USING (code)
), at_k AS (
    SELECT k,
           sum(hits) / (SELECT count(*) FROM judged)::DOUBLE AS accuracy,
           2 * sum(hits) / (sum(predicted) + sum(positives))::DOUBLE AS micro_f1,
           avg(2 * hits / (predicted + positives)::DOUBLE) FILTER (WHERE positives > 0) AS f1,
           avg(label_precision) FILTER (WHERE positives > 0) AS precision,
           avg(hits / positives::DOUBLE) FILTER (WHERE positives > 0) AS recall,
           count(*) AS labels,
           count(*) FILTER (WHERE positives > 0) AS labels_asked
    FROM of_label
    GROUP BY k
)
SELECT k, 'accuracy' AS metric, 'micro' AS average, accuracy AS value, labels AS n_labels FROM at_k
UNION ALL SELECT k, 'f1', 'micro', micro_f1, labels FROM at_k
UNION ALL SELECT k, 'f1', 'macro', f1, labels_asked FROM at_k
UNION ALL SELECT k, 'precision', 'macro', precision, labels_asked FROM at_k
UNION ALL SELECT k, 'recall', 'macro', recall, labels_asked FROM at_k
