-- vanished: the classes of the queries that a sample leaves nothing to find, at one level of relevance.
-- reads    queries (all that can be judged), vanished(query_key)
-- returns  one row a class: (label, n_queries: that are left out, is_gone: whether these are all of the class's queries)
SELECT label, count(*) FILTER (WHERE gone) AS n_queries, bool_and(gone) AS is_gone
FROM (
    SELECT unnest(q.classes) AS label, v.query_key IS NOT NULL AS gone
    FROM queries AS q
    LEFT JOIN vanished AS v USING (query_key)
)
GROUP BY label
HAVING count(*) FILTER (WHERE gone) > 0
ORDER BY label
