-- exact_duplicates_across_splits: equal images that stand in several splits, so that a query may find itself in the gallery.
-- reads    images(image_key, image_id, dataset, split, pixels_hash)
-- returns  one row an image: (group_id: the least image_key of its copies, image_key, detail)
WITH spread AS (
    SELECT pixels_hash, min(image_key) AS group_id
    FROM images
    WHERE pixels_hash IS NOT NULL
    GROUP BY pixels_hash
    HAVING count(DISTINCT split) > 1
)
SELECT group_id, image_key, image_id || ' (' || split || ')' AS detail FROM images JOIN spread USING (pixels_hash) ORDER BY group_id, image_id
