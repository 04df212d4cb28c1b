-- gallery_queries: queries that show the best, the middle and the worst cases, over different labels.
--          value = share of the shown neighbors that are relevant; best a third of $n, then the worst, the middle the rest:
--          nearest to the median
-- reads    queries(query_key, classes), hits(query_key, rank, is_relevant) of the shown ranks, manifest
-- returns  one row a query: (query_key, label, sort: best, middle or worst, value, found, correct, image_id, uri, labels,
--          modality, region)
-- how      a query stands for the rarest of its classes; every class has its turn before one comes twice; ties by a hash
--          of key and $seed, so the choice is neither ours nor the file order's
-- edges    queries without a neighbor are left out; fewer queries than $n: all of them
WITH found AS (
    SELECT query_key, count(*) AS found, count(*) FILTER (WHERE is_relevant) AS correct FROM hits GROUP BY query_key
), class_sizes AS (
    SELECT class, count(*) AS n FROM (SELECT unnest(classes) AS class FROM queries) GROUP BY class
), named AS (
    SELECT q.query_key, arg_min(c.class, (c.n, c.class)) AS label
    FROM (SELECT query_key, unnest(classes) AS class FROM queries) AS q
    JOIN class_sizes AS c USING (class)
    GROUP BY q.query_key
), judged AS (
    SELECT query_key, label, found, correct, correct / found::DOUBLE AS value, md5(query_key || ' ' || $seed) AS tie
    FROM found
    JOIN named USING (query_key)
), best AS (
    SELECT *, 'best' AS sort, row_number() OVER (PARTITION BY label ORDER BY value DESC, tie) AS turn FROM judged
    ORDER BY turn, value DESC, tie LIMIT ceil($n / 3.0)::BIGINT
), worst AS (
    SELECT *, 'worst' AS sort, row_number() OVER (PARTITION BY label ORDER BY value, tie) AS turn FROM judged ANTI JOIN best USING (query_key)
    ORDER BY turn, value, tie LIMIT floor(($n + 1) / 3.0)::BIGINT
), left_over AS (
    SELECT *, abs(value - (SELECT median(value) FROM judged)) AS away
    FROM judged ANTI JOIN best USING (query_key) ANTI JOIN worst USING (query_key)
), middle AS (
    SELECT * EXCLUDE (away), 'middle' AS sort, row_number() OVER (PARTITION BY label ORDER BY away, tie) AS turn FROM left_over
    ORDER BY turn, away, tie LIMIT floor($n / 3.0)::BIGINT
)
SELECT c.query_key, c.label, c.sort, c.value, c.found, c.correct, m.image_id, m.uri, m.labels, m.modality, m.region
FROM (FROM best UNION ALL BY NAME FROM middle UNION ALL BY NAME FROM worst) AS c
JOIN manifest AS m ON m.image_key = c.query_key
ORDER BY list_position(['best', 'middle', 'worst'], sort), value DESC, label, tie
