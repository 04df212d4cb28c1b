-- count: count aggregation. Each of the $k nearest slices of each of the query's slices is one vote for the volume that it is of.
--        distance = 1 - votes of the volume / (the query's slices * $k)
-- reads    found(query_key, neighbor_key, rank): volumes, a row for each slice of the query and each of its nearest slices; asked(query_key, n_slices)
-- returns  one row a query and volume with a vote: (query_key, neighbor_key, distance in [0, 1))
-- edges    a gallery of fewer than $k slices leaves votes ungiven, and so do slices as near as one beyond the $k (found lacks them): no volume has a
--          distance of 0 then
-- source   Khun Jush et al., arXiv 2405.09334 (2024), count-based aggregation
SELECT f.query_key, f.neighbor_key, 1 - count(*) / (a.n_slices * $k)::DOUBLE AS distance
FROM found AS f
JOIN asked AS a USING (query_key)
GROUP BY f.query_key, f.neighbor_key, a.n_slices
