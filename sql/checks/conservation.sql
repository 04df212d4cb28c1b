-- conservation: manifest rows that do not end as exactly one embedding or one failure.
-- reads    manifest, done(image_key, failed: one row an embedding or failure)
-- returns  one row an offence: (image_key, image_id, times)
WITH counted AS (
    SELECT image_key, count(*) AS times FROM done GROUP BY image_key
)
SELECT m.image_key, m.image_id, coalesce(c.times, 0) AS times
FROM manifest AS m
LEFT JOIN counted AS c USING (image_key)
WHERE coalesce(c.times, 0) <> 1
