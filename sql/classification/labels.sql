-- labels: what can be predicted or be true, with how many judged queries have it.
-- reads    manifest, gallery_keys(image_key: those that vote, or train), embedded(image_key), judged
-- returns  one row a label of the embedded gallery or of a judged query: (code: from 1, in the order of the labels, label, positives, negatives)
-- edges    a label that the gallery lacks stays: its queries cannot be right. A label that no judged query has stays, too: predicting it is wrong
WITH found AS (
    SELECT unnest(m.labels) AS label, 0 AS asked
    FROM manifest AS m
    JOIN gallery_keys USING (image_key)
    JOIN embedded USING (image_key)
    UNION ALL
    SELECT unnest(list_distinct(labels)), 1 FROM judged
)
SELECT row_number() OVER (ORDER BY label)::INTEGER AS code,
       label,
       sum(asked)::BIGINT AS positives,
       (SELECT count(*) FROM judged) - sum(asked)::BIGINT AS negatives
FROM found
GROUP BY label
