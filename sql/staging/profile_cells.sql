-- profile_cells: the cells of each profile.
-- reads    cells, profiles
-- returns  one row a profile and cell: (profile, slice_by, slice, average, class)
SELECT p.profile, c.slice_by, c.slice, c.average, c.class
FROM cells AS c
JOIN (SELECT profile, min(query_key) AS query_key FROM profiles GROUP BY profile) AS p USING (query_key)
