-- caps: how many gallery images have a query's own label.
-- reads    truths(query_key, code), carriers(image_key, code)
-- returns  one row a query: (query_key, code, images: 1 or more)
SELECT t.query_key, t.code, c.images
FROM truths AS t
JOIN (SELECT code, count(*) AS images FROM carriers GROUP BY code) AS c USING (code)
