-- ndcg_at_k: discounted gain of the first $k neighbors, against that of the best order there could be.
--          DCG@k = sum over relevant ranks r <= k of 1 / log2(r + 1);  nDCG@k = DCG@k / (the same sum over r = 1 .. min(k, R))
-- reads    queries(query_key), found(query_key, rank), candidates(query_key, n_relevant)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    R = 0: 0
-- differs  every relevant image gains 1, however many labels it shares: ndcg_overlap_at_k
WITH discounts AS (
    SELECT r, 1 / log2(r + 1) AS discount, sum(1 / log2(r + 1)) OVER (ORDER BY r) AS ideal FROM (SELECT unnest(range(1, $k + 1)) AS r)
), gained AS (
    SELECT f.query_key, sum(d.discount) AS dcg FROM found AS f JOIN discounts AS d ON d.r = f.rank GROUP BY f.query_key
)
SELECT c.query_key, coalesce(g.dcg / d.ideal, 0) AS value
FROM candidates AS c
LEFT JOIN gained AS g USING (query_key)
LEFT JOIN discounts AS d ON d.r = least($k, c.n_relevant)
