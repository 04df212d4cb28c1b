-- image_sizes: how large and deep the images of each dataset are.
-- reads    images(dataset, format, bit_depth, width, height, stage)
-- returns  one row a dataset, format and depth: (dataset, format, bit_depth, images, least, middle, most: 'W x H' by area)
SELECT dataset, format, bit_depth, count(*) AS images,
       arg_min(width || ' x ' || height, width::BIGINT * height) AS least,
       quantile_disc({'area': width::BIGINT * height, 'size': width || ' x ' || height}, 0.5).size AS middle,
       arg_max(width || ' x ' || height, width::BIGINT * height) AS most
FROM images
WHERE stage IS NULL
GROUP BY dataset, format, bit_depth
ORDER BY dataset, images DESC, format, bit_depth
