-- outcomes_by_k: how often each label is predicted, and how often that is right, for every k from 1 to $depth.
-- reads    leaders, truths, labels
-- returns  one row a k and label: (k, code, predicted, hits: predicted for a query that has it)
-- how      as score_counts_by_k
WITH steps AS (
    SELECT l.code, k, sum(step) AS predicted, sum(step) FILTER (WHERE t.code IS NOT NULL) AS hits
    FROM (SELECT query_key, code, first_k AS k, 1 AS step FROM leaders
          UNION ALL
          SELECT query_key, code, last_k + 1, -1 FROM leaders WHERE last_k < $depth) AS l
    LEFT JOIN truths AS t USING (query_key, code)
    GROUP BY l.code, k
), grid AS (
    SELECT code, unnest(range(1, $depth + 1)) AS k FROM labels
)
SELECT k::INTEGER AS k, code,
       (sum(coalesce(s.predicted, 0)) OVER so_far)::BIGINT AS predicted,
       (sum(coalesce(s.hits, 0)) OVER so_far)::BIGINT AS hits
FROM grid
LEFT JOIN steps AS s USING (code, k)
WINDOW so_far AS (PARTITION BY code ORDER BY k)
