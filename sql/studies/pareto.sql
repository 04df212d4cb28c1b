-- pareto: which points of a sweep no other point is better than.
--         A point is off the front where another of the same encoder, metric, relevance and k is at least as fast and at least as good, and one of both more.
-- reads    points(encoder, metric, relevance, k?, value, queries_per_second, ...)
-- returns  the points, all columns, with is_pareto; the fastest first
-- edges    two equal points are both on the front; exact search is a point like any other
SELECT p.*, NOT EXISTS (
           FROM points AS o
           WHERE o.encoder = p.encoder AND o.metric = p.metric AND o.relevance = p.relevance AND o.k IS NOT DISTINCT FROM p.k
             AND o.value >= p.value AND o.queries_per_second >= p.queries_per_second
             AND (o.value > p.value OR o.queries_per_second > p.queries_per_second)
       ) AS is_pareto
FROM points AS p
ORDER BY encoder, metric, relevance, k, queries_per_second DESC, value DESC, dtype, pca, connectivity, expansion_search, rerank
