-- retrieval: precision at N, N = 1 .. $most, where N is at most the number of gallery images with the query's label.
--          P@N of a query = hits among its first n neighbors / n, n = min(N, gallery images with its label)
--          micro = over queries; macro = mean over labels of the figure within each label; std with n - 1
-- reads    neighbors, carriers, caps
-- returns  one row an N: (n, micro_precision_mean, micro_precision_std, macro_precision_mean, macro_precision_std)
-- edges    the std of one query is missing, and not in the macro mean of them; fewer neighbors found than n: the missing ones are misses
-- differs  metrics/precision_at_k.sql divides by N, so that a rare label cannot score 1 where it leaves places to others
WITH found AS (
    SELECT q.query_key, n.rank, count(c.image_key) OVER (PARTITION BY q.query_key ORDER BY n.rank) AS hits
    FROM neighbors AS n
    JOIN caps AS q USING (query_key)
    LEFT JOIN carriers AS c ON c.image_key = n.neighbor_key AND c.code = q.code
    WHERE n.rank <= $most
), depths AS (
    SELECT query_key, max(rank) AS deepest FROM found GROUP BY query_key
), precisions AS (
    SELECT q.code, r.n, coalesce(f.hits, 0) / least(r.n, q.images)::DOUBLE AS value
    FROM caps AS q
    CROSS JOIN (SELECT unnest(range(1, $most + 1)) AS n) AS r
    LEFT JOIN depths AS d USING (query_key)
    LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank = least(r.n, q.images, d.deepest)
), of_label AS (
    SELECT n, avg(value) AS mean, stddev_samp(value) AS std FROM precisions GROUP BY n, code
), macro AS (
    SELECT n, avg(mean) AS macro_precision_mean, avg(std) AS macro_precision_std FROM of_label GROUP BY n
), micro AS (
    SELECT n, avg(value) AS micro_precision_mean, stddev_samp(value) AS micro_precision_std FROM precisions GROUP BY n
)
SELECT n, micro_precision_mean, micro_precision_std, macro_precision_mean, macro_precision_std
FROM micro
JOIN macro USING (n)
ORDER BY n
