-- barred: the pairs that a search passes over: a query itself, and images that share an excluded value with it.
-- reads    queries, gallery, exclusions(image_key, exclusion, code: equal where two images have the same value of it)
-- returns  one row a pair of one pool: (query_key, image_key)
-- edges    an image without a value (no patient id) has no row in exclusions and bars nothing
SELECT q.query_key, g.image_key
FROM queries AS q
JOIN gallery AS g ON g.image_key = q.query_key AND g.pool = q.pool
UNION
SELECT q.query_key, g.image_key
FROM queries AS q
JOIN exclusions AS mine ON mine.image_key = q.query_key
JOIN exclusions AS theirs USING (exclusion, code)
JOIN gallery AS g ON g.image_key = theirs.image_key AND g.pool = q.pool
