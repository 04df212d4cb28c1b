-- confusion_cells: the cells of each encoder's confusion matrix.
-- reads    confusions, searches, shown(encoder, label)
-- returns  (encoder, label, retrieved, share, n_queries) for shown labels; retrieved NULL: labels that are not shown, taken together
-- edges    '' (no neighbor, or one without a label) is a column of its own
SELECT c.encoder, c.label, CASE WHEN c.retrieved = '' OR r.label IS NOT NULL THEN c.retrieved END AS retrieved,
       sum((c.share * 2 ** 40)::HUGEINT) / 2 ** 40 AS share, any_value(c.n_queries) AS n_queries
FROM confusions AS c
JOIN searches AS s USING (encoder, index)
JOIN shown AS l ON l.encoder = c.encoder AND l.label = c.label
LEFT JOIN shown AS r ON r.encoder = c.encoder AND r.label = c.retrieved
WHERE s.question = 1 AND s.turn = 1
GROUP BY ALL
ORDER BY c.encoder, c.label, retrieved
