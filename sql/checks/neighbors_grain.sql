-- neighbors_grain: neighbors break their grain: ranks 1, 2, 3 ... of a query, distances ascending.
-- reads    neighbors
-- returns  one row an offence: (query_key, neighbor_key, problem)
-- how      not asked where sql/staging/out_of_order.sql finds no row, as in every file that a search has written
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY query_key ORDER BY rank, neighbor_key) AS place,
           lag(distance) OVER (PARTITION BY query_key ORDER BY rank, neighbor_key) AS before
    FROM neighbors
)
SELECT query_key, neighbor_key,
       CASE WHEN place <> rank THEN 'ranks are not 1, 2, 3 ...' ELSE 'distances descend' END AS problem
FROM ordered
WHERE place <> rank OR distance < before
