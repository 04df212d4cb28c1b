-- exact_duplicates: images that are equal pixel by pixel, whatever files carry them.
-- reads    images(image_key, image_id, dataset, split, pixels_hash)
-- returns  one row an image: (group_id: the least image_key of its copies, image_key, detail)
SELECT min(image_key) OVER copies AS group_id, image_key, image_id || ' (' || split || ')' AS detail
FROM images
WHERE pixels_hash IS NOT NULL
WINDOW copies AS (PARTITION BY pixels_hash)
QUALIFY count(*) OVER copies > 1
ORDER BY group_id, image_id
