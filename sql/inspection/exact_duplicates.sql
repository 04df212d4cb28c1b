-- exact_duplicates: images that are equal pixel by pixel, whatever files carry them.
-- reads    images(image_key, image_id, split, pixels_hash)
-- returns  one row an image: (group_id: the least image_key of its copies, image_key, detail)
WITH copied AS (
    SELECT pixels_hash, min(image_key) AS group_id FROM images WHERE pixels_hash IS NOT NULL GROUP BY pixels_hash HAVING count(*) > 1
)
SELECT group_id, image_key, image_id || ' (' || split || ')' AS detail FROM images JOIN copied USING (pixels_hash) ORDER BY group_id, image_id
