-- exact_duplicates_with_other_labels: equal images that do not have the same labels.
-- reads    images(image_key, image_id, labels, pixels_hash)
-- returns  one row an image: (group_id: the least image_key of its copies, image_key, detail)
WITH divided AS (
    SELECT pixels_hash, min(image_key) AS group_id
    FROM images
    WHERE pixels_hash IS NOT NULL
    GROUP BY pixels_hash
    HAVING count(DISTINCT list_sort(labels)) > 1
)
SELECT group_id, image_key, image_id || ': ' || coalesce(nullif(array_to_string(list_sort(labels), ', '), ''), 'no label') AS detail
FROM images JOIN divided USING (pixels_hash)
ORDER BY group_id, image_id
