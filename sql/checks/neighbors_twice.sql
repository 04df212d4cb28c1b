-- neighbors_twice: neighbors that stand twice under one query.
-- reads    neighbors
-- returns  one row a query: (query_key, neighbor_key, problem)
WITH sorted AS (
    SELECT query_key, list_sort(list(neighbor_key)) AS found FROM neighbors GROUP BY query_key
), repeated AS (
    SELECT query_key, list_filter(found, lambda x, i: i > 1 AND found[i - 1] = x) AS again FROM sorted
)
SELECT query_key, again[1] AS neighbor_key, 'neighbor stands twice' AS problem FROM repeated WHERE len(again) > 0
