-- near_duplicates: images that look alike (their perceptual hashes differ in few bits) and are not equal: recompressed, resized, or the same view again.
-- reads    images(image_key, image_id, split, pixels_hash, perceptual_hash), hash_groups(perceptual_hash, hash_group)
-- returns  one row an image: (group_id: the least image_key of those alike, image_key, detail)
-- edges    images of one color have no perceptual hash and are alike to none
WITH alike AS (
    SELECT hash_group, min(image_key) AS group_id
    FROM images JOIN hash_groups USING (perceptual_hash)
    GROUP BY hash_group
    HAVING count(DISTINCT pixels_hash) > 1
)
SELECT group_id, image_key, image_id || ' (' || split || ')' AS detail
FROM images JOIN hash_groups USING (perceptual_hash) JOIN alike USING (hash_group)
ORDER BY group_id, image_id
