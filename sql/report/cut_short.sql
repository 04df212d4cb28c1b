-- cut_short: queries of which fewer than $k neighbors are known at this relevance, though the gallery has more.
-- reads    queries, candidates, ranked(query_key)
-- returns  one row: (queries, cut_short)
WITH known AS (
    SELECT query_key, count(*) AS n FROM ranked GROUP BY query_key
)
SELECT count(*) AS queries, count(*) FILTER (WHERE coalesce(k.n, 0) < least($k, c.n_candidates)) AS cut_short
FROM queries AS q
JOIN candidates AS c USING (query_key)
LEFT JOIN known AS k USING (query_key)
WHERE q.embedded
