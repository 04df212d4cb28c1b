-- averages: one value a query -> one figure a slice. The only place where anything is averaged.
--          micro = mean over queries; macro = mean over classes of the mean over each class's queries
-- reads    query_values(query_key, value, chance), slices(query_key, slice_by, slice), queries(query_key, embedded, classes)
-- returns  (slice_by, slice, average, value, chance, n_queries, n_failed)
-- edges    a query in several classes counts in each of their means; no macro for slices by $relevance itself, which
--          hold one class each
WITH rows AS (
    SELECT s.slice_by, s.slice, q.query_key, q.classes, q.embedded, v.value, v.chance
    FROM query_values AS v
    JOIN queries AS q USING (query_key)
    JOIN slices AS s USING (query_key)
), sizes AS (
    SELECT slice_by, slice, count(*) AS n_queries, count(*) FILTER (WHERE NOT embedded) AS n_failed FROM rows GROUP BY ALL
), class_means AS (
    SELECT slice_by, slice, class, avg(value) AS value, avg(chance) AS chance
    FROM (SELECT slice_by, slice, unnest(classes) AS class, value, chance FROM rows WHERE slice_by <> $relevance)
    GROUP BY ALL
), figures AS (
    SELECT slice_by, slice, 'micro' AS average, avg(value) AS value, avg(chance) AS chance FROM rows GROUP BY slice_by, slice
    UNION ALL
    SELECT slice_by, slice, 'macro', avg(value), avg(chance) FROM class_means GROUP BY slice_by, slice
)
SELECT slice_by, slice, average, value, chance, n_queries, n_failed
FROM figures
JOIN sizes USING (slice_by, slice)
