-- carriers: which gallery image votes for which labels.
-- reads    manifest, gallery_keys(image_key), embedded(image_key), labels
-- returns  one row a gallery image and label of it: (image_key, code)
-- edges    an image without a label has no row, and votes for none
SELECT c.image_key, l.code
FROM (
    SELECT m.image_key, unnest(list_distinct(m.labels)) AS label
    FROM manifest AS m
    JOIN gallery_keys USING (image_key)
    JOIN embedded USING (image_key)
) AS c
JOIN labels AS l USING (label)
