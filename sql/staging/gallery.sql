-- gallery: the images that can be found, with the classes that make one relevant to a query.
-- reads    judged, gallery_keys(image_key: what the search's predicate selects), embedded(image_key)
-- returns  one row a gallery image that was embedded: (image_key, classes, class_set, pool)
-- edges    an image without a class stays: it can be found, and is not relevant
SELECT image_key, classes, class_set, pool
FROM judged
JOIN gallery_keys USING (image_key)
JOIN embedded USING (image_key)
