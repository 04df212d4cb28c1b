-- slices: which images are a volume's slices, in their order, and which of them an encoder has a vector of.
-- reads    manifest: of the study of images; volumes(image_key, dataset, volume_id); done(image_key, failed): what the encoder has embedded
-- returns  one row a slice: (image_key: of the volume, slice_key, place, slice?, uri, embedded), ordered by volume and place
-- edges    a slice that has not been looked at yet counts as not embedded, as one that failed does
SELECT v.image_key, m.image_key AS slice_key,
       (row_number() OVER (PARTITION BY v.image_key ORDER BY m.slice NULLS LAST, m.image_id) - 1)::INTEGER AS place,
       m.slice, m.uri, coalesce(NOT d.failed, false) AS embedded
FROM manifest AS m
JOIN volumes AS v USING (dataset, volume_id)
LEFT JOIN (SELECT image_key, bool_and(failed) AS failed FROM done GROUP BY image_key) AS d ON d.image_key = m.image_key
ORDER BY v.image_key, place
