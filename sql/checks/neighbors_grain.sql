-- neighbors_grain: neighbors break their grain: ranks 1, 2, 3 ... of a query, no neighbor twice, distances ascending.
-- reads    neighbors
-- returns  one row an offence: (query_key, neighbor_key, problem)
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY query_key ORDER BY rank, neighbor_key) AS place,
           lag(distance) OVER (PARTITION BY query_key ORDER BY rank, neighbor_key) AS before,
           count(*) OVER (PARTITION BY query_key, neighbor_key) AS times
    FROM neighbors
)
SELECT query_key, neighbor_key,
       CASE WHEN place <> rank THEN 'ranks are not 1, 2, 3 ...' WHEN times > 1 THEN 'neighbor stands twice' ELSE 'distances descend' END AS problem
FROM ordered
WHERE place <> rank OR times > 1 OR distance < before
