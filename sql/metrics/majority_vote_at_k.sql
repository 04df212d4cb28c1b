-- majority_vote_at_k: whether the query's class is among those with the most votes of the first $k neighbors ("mMV@5" of Mahbod et al. 2024).
-- reads    queries(query_key, classes), judged(kind, classes), hits(query_key, rank, kind)
-- returns  one row a query: (query_key, value 0 or 1)
-- edges    every class of a neighbor has its vote; a tie counts where one of the tied is the query's; no vote at all: 0
-- differs  a classifier that must name one class is in sql/classification; it gains nothing from ties
WITH votes AS (
    SELECT h.query_key, unnest(g.classes) AS class FROM hits AS h JOIN judged AS g USING (kind) WHERE h.rank <= $k
), counted AS (
    SELECT query_key, class, count(*) AS n FROM votes GROUP BY ALL
), winners AS (
    SELECT query_key, list(class) AS classes FROM (SELECT *, max(n) OVER (PARTITION BY query_key) AS most FROM counted) WHERE n = most GROUP BY query_key
)
SELECT q.query_key, coalesce(list_has_any(q.classes, l.classes), false)::DOUBLE AS value
FROM queries AS q
LEFT JOIN winners AS l USING (query_key)
