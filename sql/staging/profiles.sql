-- profiles: queries that are in the same cells, together; so that sums over 100,000 queries become sums over some hundred profiles.
-- reads    cells
-- returns  one row a query: (query_key, profile: 64 bits, the same for the same cells)
-- how      the cells' hashes, exclusive or: whatever their order; that two of a million profiles are taken for one has a chance of 1 in 10^7
SELECT query_key, bit_xor(hash(slice_by, slice, average, class)) AS profile
FROM cells
GROUP BY query_key
