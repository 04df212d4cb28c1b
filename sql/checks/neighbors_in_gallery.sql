-- neighbors_in_gallery: neighbors that the search should not have returned.
-- reads    neighbors, gallery_keys(image_key), query_keys(image_key), exclusions(image_key, exclusion, code)
-- returns  one row an offence: (query_key, neighbor_key, problem)
SELECT query_key, neighbor_key, 'neighbor is not in the gallery' AS problem
FROM neighbors ANTI JOIN gallery_keys ON neighbor_key = image_key
UNION ALL
SELECT query_key, neighbor_key, 'query is not among the queries' FROM neighbors ANTI JOIN query_keys ON query_key = image_key
UNION ALL
SELECT query_key, neighbor_key, 'query is its own neighbor' FROM neighbors WHERE query_key = neighbor_key
UNION ALL
SELECT query_key, neighbor_key, 'neighbor has an excluded value of the query'
FROM neighbors
JOIN exclusions AS mine ON mine.image_key = query_key
JOIN exclusions AS theirs ON theirs.image_key = neighbor_key AND theirs.exclusion = mine.exclusion AND theirs.code = mine.code
