-- confusion_labels: the labels that a confusion matrix of each encoder shows: all of them where they are at most $most, else the $most confused.
--          confused = queries of this label whose nearest neighbor has another, and of others whose nearest neighbor has this one
-- reads    confusions, searches
-- returns  (encoder, label, confused, n_queries, labels: how many there are), by encoder and label
-- how      added up in whole 2^-40, so that no order of rows shows
-- edges    a label that no query has, though neighbors do: n_queries 0, and no row of its own in the matrix
WITH standing AS (
    SELECT c.* FROM confusions AS c JOIN searches AS s USING (encoder, index) WHERE s.question = 1 AND s.turn = 1
), counted AS (
    SELECT encoder, label, share * n_queries AS queries, n_queries FROM standing WHERE retrieved <> label
    UNION ALL
    SELECT encoder, retrieved, share * n_queries, 0 FROM standing WHERE retrieved NOT IN (label, '')
    UNION ALL
    SELECT encoder, label, 0, n_queries FROM standing WHERE retrieved = label
), labels AS (
    SELECT encoder, label, sum((queries * 2 ** 40)::HUGEINT) / 2 ** 40 AS confused, max(n_queries) AS n_queries, count(*) OVER (PARTITION BY encoder) AS labels
    FROM counted
    GROUP BY encoder, label
)
SELECT encoder, label, confused, n_queries, labels
FROM labels
QUALIFY row_number() OVER (PARTITION BY encoder ORDER BY confused DESC, n_queries DESC, label) <= $most
ORDER BY encoder, label
