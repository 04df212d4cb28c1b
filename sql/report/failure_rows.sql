-- failure_rows: the first $n images that were not embedded, with the encoders that failed on each.
-- reads    failures(encoder, image_key, uri, stage, error), manifest
-- returns  (image_id, split, stage, error, encoders: list, total: how many rows there are without the limit), by image_id
SELECT m.image_id, m.split, f.stage, f.error, list_sort(list(f.encoder)) AS encoders, count(*) OVER () AS total
FROM failures AS f
JOIN manifest AS m USING (image_key)
GROUP BY ALL
ORDER BY m.image_id, f.stage, f.error
LIMIT $n
