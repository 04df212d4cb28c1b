-- missing_file: images whose file is not there or cannot be read.
-- reads    images(image_key, image_id, stage, error, ...: the manifest with what was found of each image)
-- returns  one row an image: (group_id, image_key, detail)
SELECT NULL::BIGINT AS group_id, image_key, image_id || ': ' || error AS detail FROM images WHERE stage = 'read' ORDER BY image_id
