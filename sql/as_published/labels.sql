-- labels: the label columns of the split files, in their order: of several labels with the highest score, the first column is predicted.
-- reads    label_order(code: from 1, label), judged
-- returns  one row a label: (code, label, positives, negatives)
-- differs  a column that no image has is a label all the same, and counts in the micro area under the ROC curve
SELECT o.code, o.label, count(j.query_key) AS positives, (SELECT count(*) FROM judged) - count(j.query_key) AS negatives
FROM label_order AS o
LEFT JOIN judged AS j ON j.labels[1] = o.label
GROUP BY o.code, o.label
