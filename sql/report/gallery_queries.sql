-- gallery_queries: queries that show, for each class, what is found: as often the nearest neighbor is right as it is wrong, where both occur.
--          right = whether the nearest neighbor is relevant; value = share of the shown neighbors that are
-- reads    queries(query_key, classes), hits(query_key, rank, is_relevant) of the shown ranks, manifest
-- returns  at most $n, one row a query: (query_key, label, classes, is_right, value, found, correct, place_in_turn, image_id, uri, labels, modality, region)
--          by place_in_turn: what stands last is left out first where there is too little room
-- how      a query stands for the rarest of its classes; every class has its turn, that with the most queries first, before one comes twice;
--          within a class a hash of key and $seed draws, so the choice is neither ours nor the file order's
-- edges    queries without a neighbor are left out; fewer queries than $n: all of them
WITH found AS (
    SELECT query_key, count(*) AS found, count(*) FILTER (WHERE is_relevant) AS correct, arg_min(is_relevant, rank) AS is_right
    FROM hits
    GROUP BY query_key
), class_sizes AS (
    SELECT class, count(*) AS n FROM (SELECT unnest(classes) AS class FROM queries) GROUP BY class
), named AS (
    SELECT q.query_key, arg_min(c.class, (c.n, c.class)) AS label
    FROM (SELECT query_key, unnest(classes) AS class FROM queries) AS q
    JOIN class_sizes AS c USING (class)
    GROUP BY q.query_key
), judged AS (
    SELECT query_key, label, n.n AS size, found, correct, is_right, correct / found::DOUBLE AS value,
           row_number() OVER (PARTITION BY label, is_right ORDER BY md5(query_key || ' ' || $seed)) AS turn
    FROM found
    JOIN named USING (query_key)
    JOIN class_sizes AS n ON n.class = label
), chosen AS (
    SELECT *, row_number() OVER (ORDER BY turn, size DESC, label, is_right DESC) AS place_in_turn FROM judged
)
SELECT c.query_key, c.label, q.classes, c.is_right, c.value, c.found, c.correct, c.place_in_turn, m.image_id, m.uri, m.labels, m.modality, m.region
FROM chosen AS c
JOIN queries AS q USING (query_key)
JOIN manifest AS m ON m.image_key = c.query_key
WHERE place_in_turn <= $n
ORDER BY place_in_turn
