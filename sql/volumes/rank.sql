-- rank: rank aggregation, a Borda count. The nearest slice of each of the query's slices gives $k points to its volume, the next $k - 1, the last 1.
--       distance = 1 - points of the volume / (the query's slices * $k * ($k + 1) / 2)
-- reads    found(query_key, neighbor_key, rank): volumes, a row for each slice of the query and each of its nearest slices; asked(query_key, n_slices)
-- returns  one row a query and volume with a point: (query_key, neighbor_key, distance in [0, 1))
-- edges    a gallery of fewer than $k slices leaves points ungiven, and so do slices as near as one beyond the $k (found lacks them): no volume has a
--          distance of 0 then
-- source   Borda's method of positional points (1781), as in Dwork et al., Rank aggregation methods for the web, WWW 2001
SELECT f.query_key, f.neighbor_key, 1 - sum($k + 1 - f.rank) / (a.n_slices * $k * ($k + 1) / 2)::DOUBLE AS distance
FROM found AS f
JOIN asked AS a USING (query_key)
GROUP BY f.query_key, f.neighbor_key, a.n_slices
