-- rates: accuracy, F1, precision and recall as scikit-learn gives them for one label a query: classification/rates.sql but for its macro means.
-- reads    outcomes(k, code, predicted, hits), labels, judged
-- returns  (k, metric, average, value, n_labels: labels in a macro mean; all of them for micro)
-- differs  macro is over the labels that are true or predicted of some query, so that their number changes with k; what divides by 0 is 0
WITH of_label AS (
    SELECT o.k, o.hits, o.predicted, l.positives, o.predicted + l.positives > 0 AS counts,
           coalesce(o.hits / nullif(o.predicted, 0)::DOUBLE, 0) AS label_precision,
           coalesce(o.hits / nullif(l.positives, 0)::DOUBLE, 0) AS label_recall
    FROM outcomes AS o
    JOIN labels AS l USING (code)
), at_k AS (
    SELECT k,
           sum(hits) / (SELECT count(*) FROM judged)::DOUBLE AS accuracy,
           2 * sum(hits) / (sum(predicted) + sum(positives))::DOUBLE AS micro_f1,
           avg(2 * hits / (predicted + positives)::DOUBLE) FILTER (WHERE counts) AS f1,
           avg(label_precision) FILTER (WHERE counts) AS precision,
           avg(label_recall) FILTER (WHERE counts) AS recall,
           count(*) AS labels,
           count(*) FILTER (WHERE counts) AS labels_counted
    FROM of_label
    GROUP BY k
)
SELECT k, 'accuracy' AS metric, 'micro' AS average, accuracy AS value, labels AS n_labels FROM at_k
UNION ALL SELECT k, 'f1', 'micro', micro_f1, labels FROM at_k
UNION ALL SELECT k, 'f1', 'macro', f1, labels_counted FROM at_k
UNION ALL SELECT k, 'precision', 'macro', precision, labels_counted FROM at_k
UNION ALL SELECT k, 'recall', 'macro', recall, labels_counted FROM at_k
