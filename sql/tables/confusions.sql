-- confusions: which label is retrieved in place of the query's.
--          share = mean over the queries with `label` of the part of the nearest neighbor's labels that is `retrieved`
-- reads    queries(query_key, classes), judged(kind, classes), hits(query_key, rank, kind), at relevance 'label'
-- returns  one row a pair that occurs: (label, retrieved, share in (0, 1], n_queries); the shares of a label sum to 1
-- edges    no neighbor, or one without a label: retrieved is ''; images with one label each: the rows of a confusion matrix
WITH nearest AS (
    SELECT h.query_key, CASE WHEN len(g.classes) > 0 THEN g.classes ELSE [''] END AS classes
    FROM hits AS h
    JOIN judged AS g USING (kind)
    WHERE h.rank = 1
), asked AS (
    SELECT q.query_key, unnest(q.classes) AS label, coalesce(n.classes, ['']) AS classes FROM queries AS q LEFT JOIN nearest AS n USING (query_key)
), sizes AS (
    SELECT label, count(*) AS n_queries FROM asked GROUP BY label
), pairs AS (
    SELECT label, unnest(classes) AS retrieved, 1 / len(classes)::DOUBLE AS part FROM asked
)
SELECT label, retrieved, sum(part) / any_value(n_queries) AS share, any_value(n_queries) AS n_queries
FROM pairs
JOIN sizes USING (label)
GROUP BY label, retrieved
ORDER BY label, share DESC, retrieved
