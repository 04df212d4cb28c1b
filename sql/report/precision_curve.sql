-- precision_curve: P@k for every k from 1 to $depth over all queries, straight from hits (see metrics/precision_at_k.sql).
-- reads    queries, hits, candidates
-- returns  (k, average, value, chance)
-- edges    as precision_at_k: missing neighbors are misses, queries without neighbors score 0
WITH depths AS (
    SELECT unnest(range(1, $depth + 1)) AS k
), members AS (
    SELECT query_key, 'all' AS class, 'micro' AS average FROM queries
    UNION ALL
    SELECT query_key, unnest(classes), 'macro' FROM queries
), class_sizes AS (
    SELECT average, class, count(*) AS n FROM members GROUP BY ALL
), found AS (
    SELECT m.average, m.class, h.rank AS k, count(*) AS hits
    FROM hits AS h
    JOIN members AS m USING (query_key)
    WHERE h.is_relevant AND h.rank <= $depth
    GROUP BY ALL
), values_at AS (
    SELECT s.average, s.class, d.k, sum(coalesce(f.hits, 0)) OVER (PARTITION BY s.average, s.class ORDER BY d.k) / (d.k * s.n)::DOUBLE AS value
    FROM class_sizes AS s
    CROSS JOIN depths AS d
    LEFT JOIN found AS f USING (average, class, k)
), pools AS (
    SELECT m.average, m.class, c.n_candidates, c.n_relevant, count(*) AS n
    FROM members AS m
    JOIN candidates AS c USING (query_key)
    WHERE c.n_candidates > 0
    GROUP BY ALL
), chances AS (
    SELECT p.average, p.class, d.k,
           sum(p.n * p.n_relevant / p.n_candidates::DOUBLE * least(d.k, p.n_candidates) / d.k::DOUBLE) AS total
    FROM pools AS p
    CROSS JOIN depths AS d
    GROUP BY ALL
)
SELECT v.k::INTEGER AS k, v.average, avg(v.value) AS value, avg(coalesce(c.total, 0) / s.n) AS chance
FROM values_at AS v
JOIN class_sizes AS s USING (average, class)
LEFT JOIN chances AS c USING (average, class, k)
GROUP BY v.k, v.average
