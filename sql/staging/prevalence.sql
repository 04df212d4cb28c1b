-- prevalence: how common an image's label is in the gallery, as a slice: rare, middle or common.
--          the gallery's labels, ordered by how many of its images have them (of equally many, by name), in three parts with as many labels each;
--          of an image with several labels, the rarest counts
-- reads    manifest, query_keys(image_key), whole(image_key): embedded images of the whole gallery
-- returns  one row a query: (image_key, slice_by: 'prevalence', slice)
-- edges    a query without a label, or with none that the gallery has: no row; with fewer than three labels the rarest are not split further:
--          one label is rare, two are rare and middle
WITH counted AS (
    SELECT label, count(*) AS images
    FROM (SELECT unnest(list_distinct(labels)) AS label FROM manifest SEMI JOIN whole USING (image_key))
    GROUP BY label
), ranked AS (
    SELECT label, ntile(3) OVER (ORDER BY images, label) AS third FROM counted
), of_query AS (
    SELECT m.image_key, unnest(list_distinct(m.labels)) AS label FROM manifest AS m SEMI JOIN query_keys USING (image_key)
)
SELECT image_key, 'prevalence' AS slice_by, ['rare', 'middle', 'common'][min(third)] AS slice
FROM of_query
JOIN ranked USING (label)
GROUP BY image_key
