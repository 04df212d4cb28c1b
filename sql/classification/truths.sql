-- truths: the labels that a query has.
-- reads    judged, labels
-- returns  one row a query and label of it: (query_key, code)
SELECT t.query_key, l.code
FROM (SELECT query_key, unnest(list_distinct(labels)) AS label FROM judged) AS t
JOIN labels AS l USING (label)
