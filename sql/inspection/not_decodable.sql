-- not_decodable: images whose file is there and is no image that can be shown.
-- reads    images(image_key, image_id, stage, error)
-- returns  one row an image: (group_id, image_key, detail)
SELECT NULL::BIGINT AS group_id, image_key, image_id || ': ' || error AS detail FROM images WHERE stage = 'decode' ORDER BY image_id
