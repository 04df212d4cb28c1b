-- out_of_order: rows of neighbors that do not follow from the row before, as they lie in the files.
--          in order: a query's ranks come as 1, 2, 3 ... one after the other, with ascending distances, and each query once
-- reads    neighbors
-- returns  one row: (rows: how many are out of order)
-- how      a pass without sorting; rows in another order may still be right, which sql/checks/neighbors_grain.sql finds out
WITH followed AS (
    SELECT query_key, rank, distance, lag(query_key) OVER () AS query_before, lag(rank) OVER () AS rank_before, lag(distance) OVER () AS before
    FROM neighbors
), wrong AS (
    SELECT count(*) AS n FROM followed
    WHERE NOT coalesce(CASE WHEN query_key = query_before THEN rank = rank_before + 1 AND distance >= before ELSE rank = 1 END, rank = 1)
), begun_again AS (
    SELECT count(*) AS n FROM (SELECT query_key FROM neighbors WHERE rank = 1 GROUP BY query_key HAVING count(*) > 1)
)
SELECT (SELECT n FROM wrong) + (SELECT n FROM begun_again) AS rows
