-- gallery: the images that can be found, with the classes that make one relevant to a query.
-- reads    held, judged
-- returns  one row a gallery image that was embedded: (image_key, classes, class_set, pool)
-- edges    an image without a class stays: it can be found, and is not relevant
SELECT image_key, classes, class_set, pool
FROM held
JOIN judged USING (kind)
