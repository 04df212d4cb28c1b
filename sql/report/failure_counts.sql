-- failure_counts: images that were not embedded, by encoder, stage and error: the first $n.
-- reads    failures(encoder, image_key, uri, stage, error)
-- returns  (encoder, stage, error, images, total: how many rows there are without the limit), those of an encoder together, the most frequent first
WITH counted AS (SELECT encoder, stage, error, count(*) AS images, count(*) OVER () AS total FROM failures GROUP BY encoder, stage, error)
FROM counted
ORDER BY encoder, images DESC, stage, error
LIMIT $n
