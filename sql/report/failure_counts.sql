-- failure_counts: images that were not embedded, by encoder, stage and error.
-- reads    failures(encoder, image_key, uri, stage, error)
-- returns  (encoder, stage, error, images), the most frequent first
SELECT encoder, stage, error, count(*) AS images
FROM failures
GROUP BY ALL
ORDER BY encoder, images DESC, stage, error
