-- chance of majority_vote_at_k: its expected value when the candidates come in random order.
--          ways to draw k of N images so that v are of the query's class and at most v of every other, summed over v >= 1, / C(N, k).
--          The ways to draw from the other classes are a product of polynomials, sum over i <= v of C(n, i) x^i, one a class of n images
-- reads    queries, gallery
-- returns  one row a query: (query_key, chance in [0, 1]; NULL where images have several classes: these do not vote independently)
-- edges    no image of the query's class: 0; images that the search passes over (the query, the same patient) are counted as candidates
-- how      products of all classes before and of all after each one; coefficients are scaled by (k / N)^i, which keeps them near 1
WITH RECURSIVE pools AS (
    SELECT pool, count(*) AS n, least($k, count(*))::BIGINT AS k, count(*) FILTER (WHERE len(classes) = 0) AS without_class,
           max(len(classes)) <= 1 AND (SELECT max(len(classes)) FROM queries) <= 1 AS single
    FROM gallery
    GROUP BY pool
), sizes AS (
    SELECT g.pool, g.classes[1] AS class, count(*) AS n, row_number() OVER (PARTITION BY g.pool ORDER BY g.classes[1]) AS place
    FROM gallery AS g
    JOIN pools AS p USING (pool)
    WHERE p.single AND len(g.classes) = 1
    GROUP BY g.pool, g.classes[1]
), terms AS (
    SELECT s.pool, s.class, s.place, p.k,
           list_transform(range(0, p.k + 1), lambda i: coalesce(list_product(list_transform(range(0, i),
               lambda j: greatest(0, s.n - j) / (j + 1)::DOUBLE * p.k / p.n)), 1)) AS poly
    FROM sizes AS s
    JOIN pools AS p USING (pool)
    UNION ALL
    SELECT pool, NULL, 0, k,
           list_transform(range(0, k + 1), lambda i: coalesce(list_product(list_transform(range(0, i),
               lambda j: greatest(0, without_class - j) / (j + 1)::DOUBLE * k / n)), 1))
    FROM pools
    WHERE single
), most AS (
    SELECT pool, max(place) AS last FROM terms GROUP BY pool
), before AS (
    SELECT t.pool, 0 AS place, v, t.k, t.poly AS product
    FROM terms AS t, LATERAL (SELECT unnest(range(1, t.k + 1)) AS v)
    WHERE t.place = 0
    UNION ALL
    SELECT b.pool, t.place, b.v, b.k,
           list_transform(range(0, b.k + 1), lambda d: list_sum(list_transform(range(0, least(b.v, d) + 1), lambda i: b.product[d - i + 1] * t.poly[i + 1])))
    FROM before AS b
    JOIN terms AS t ON t.pool = b.pool AND t.place = b.place + 1
), after AS (
    SELECT t.pool, m.last + 1 AS place, v, t.k, list_transform(range(0, t.k + 1), lambda d: (d = 0)::DOUBLE) AS product
    FROM terms AS t JOIN most AS m USING (pool), LATERAL (SELECT unnest(range(1, t.k + 1)) AS v)
    WHERE t.place = 0
    UNION ALL
    SELECT a.pool, t.place, a.v, a.k,
           list_transform(range(0, a.k + 1), lambda d: list_sum(list_transform(range(0, least(a.v, d) + 1), lambda i: a.product[d - i + 1] * t.poly[i + 1])))
    FROM after AS a
    JOIN terms AS t ON t.pool = a.pool AND t.place = a.place - 1
    WHERE t.place > 0
), ways AS (
    SELECT t.pool, t.class, sum(t.poly[b.v + 1] * list_sum(list_transform(range(0, t.k - b.v + 1),
               lambda i: b.product[i + 1] * a.product[t.k - b.v - i + 1]))) AS favourable
    FROM terms AS t
    JOIN before AS b ON b.pool = t.pool AND b.place = t.place - 1
    JOIN after AS a ON a.pool = t.pool AND a.place = t.place + 1 AND a.v = b.v
    GROUP BY t.pool, t.class
), all_ways AS (
    SELECT pool, single, list_product(list_transform(range(0, k), lambda j: (n - j) / (j + 1)::DOUBLE * k / n)) AS total FROM pools
)
SELECT q.query_key, CASE WHEN p.single IS NULL THEN 0 WHEN p.single THEN coalesce(w.favourable / p.total, 0) END AS chance
FROM queries AS q
LEFT JOIN all_ways AS p USING (pool)
LEFT JOIN ways AS w ON w.pool = q.pool AND w.class = q.classes[1]
