-- outcomes: how often each label is predicted, and how often that is right.
-- reads    predicted(query_key, code), truths, labels
-- returns  one row a label: (k: $k, code, predicted, hits: predicted for a query that has it)
SELECT $k::INTEGER AS k, l.code, count(p.query_key) AS predicted, count(t.query_key) AS hits
FROM labels AS l
LEFT JOIN predicted AS p USING (code)
LEFT JOIN truths AS t ON t.query_key = p.query_key AND t.code = p.code
GROUP BY l.code
