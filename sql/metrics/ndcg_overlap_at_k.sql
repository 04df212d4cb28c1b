-- ndcg_overlap_at_k: ndcg_at_k with graded relevance: a neighbor gains its overlap with the query's labels, in place of 1.
--          DCG@k = sum over ranks r <= k of overlap / log2(r + 1), divided by that of all candidates in descending order of overlap
-- reads    queries(query_key), found(query_key, rank, overlap), gains(query_key, overlap, images)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    nothing in the gallery overlaps: 0; images with one label each: equal to ndcg_at_k
-- differs  gains are linear (Jarvelin and Kekalainen 2002, trec_eval), not 2^gain - 1
WITH discounts AS (
    SELECT r, sum(1 / log2(r + 1)) OVER (ORDER BY r) AS total FROM (SELECT unnest(range(1, $k + 1)) AS r)
    UNION ALL
    SELECT 0, 0
), places AS (
    SELECT query_key, overlap, least($k, sum(images) OVER (PARTITION BY query_key ORDER BY overlap DESC)) AS until, images FROM gains
), ideals AS (
    SELECT query_key, sum(overlap * (t.total - b.total)) AS ideal
    FROM (SELECT *, lag(until, 1, 0) OVER (PARTITION BY query_key ORDER BY overlap DESC) AS before FROM places)
    JOIN discounts AS t ON t.r = until
    JOIN discounts AS b ON b.r = before
    GROUP BY query_key
), gained AS (
    SELECT query_key, sum(overlap / log2(rank + 1)) AS dcg FROM found WHERE rank <= $k GROUP BY query_key
)
SELECT q.query_key, coalesce(g.dcg / i.ideal, 0) AS value
FROM queries AS q
LEFT JOIN gained AS g USING (query_key)
LEFT JOIN ideals AS i USING (query_key)
