-- chance of duplicates_at_k: its expected value when the candidates come in random order.
--          (copies of the query among the candidates) / n_candidates, times min(k, n_candidates) / k where there are fewer candidates than k
-- reads    queries, gallery, candidates(query_key, n_candidates), barred(query_key, image_key), duplicates(image_key, code)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    no candidate at all: 0
WITH copies AS (
    SELECT q.image_key AS query_key, count(*) AS n
    FROM duplicates AS q
    JOIN duplicates AS g USING (code)
    JOIN gallery ON gallery.image_key = g.image_key
    ANTI JOIN barred AS b ON b.query_key = q.image_key AND b.image_key = g.image_key
    GROUP BY q.image_key
)
SELECT query_key, CASE WHEN n_candidates = 0 THEN 0 ELSE coalesce(c.n, 0) / n_candidates::DOUBLE * least($k, n_candidates) / $k END AS chance
FROM candidates
LEFT JOIN copies AS c USING (query_key)
