-- chance of ndcg_overlap_at_k: its expected value when the candidates come in random order.
--          mean overlap of the candidates * D(min(k, n_candidates)) / DCG@k of the best order,  D(n) = sum over r = 1 .. n of 1 / log2(r + 1)
-- reads    candidates(query_key, n_candidates, overlap), gains(query_key, overlap, images)
-- returns  one row a query: (query_key, chance in [0, 1])
-- edges    nothing in the gallery overlaps: 0
WITH discounts AS (
    SELECT r, sum(1 / log2(r + 1)) OVER (ORDER BY r) AS total FROM (SELECT unnest(range(1, $k + 1)) AS r)
    UNION ALL
    SELECT 0, 0
), places AS (
    SELECT query_key, overlap, least($k, sum(images) OVER (PARTITION BY query_key ORDER BY overlap DESC)) AS until FROM gains
), ideals AS (
    SELECT query_key, sum(overlap * (t.total - b.total)) AS ideal
    FROM (SELECT *, lag(until, 1, 0) OVER (PARTITION BY query_key ORDER BY overlap DESC) AS before FROM places)
    JOIN discounts AS t ON t.r = until
    JOIN discounts AS b ON b.r = before
    GROUP BY query_key
)
SELECT c.query_key, coalesce(c.overlap / c.n_candidates * a.total / i.ideal, 0) AS chance
FROM candidates AS c
LEFT JOIN ideals AS i USING (query_key)
LEFT JOIN discounts AS a ON a.r = least($k, c.n_candidates)
