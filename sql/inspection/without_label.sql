-- without_label: datasets with images that have no label: they can be found, and cannot be right.
-- reads    images(image_key, dataset, labels)
-- returns  one row a dataset: (group_id, image_key: null, detail)
SELECT NULL::BIGINT AS group_id, NULL::BIGINT AS image_key, dataset || ': ' || count(*) FILTER (WHERE len(labels) = 0) || ' of ' || count(*) || ' images' AS detail
FROM images
GROUP BY dataset
HAVING count(*) FILTER (WHERE len(labels) = 0) > 0
ORDER BY dataset
