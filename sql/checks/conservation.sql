-- conservation: manifest rows that do not end as exactly one embedding or one failure.
-- reads    manifest, done(image_key, failed: one row an embedding or failure)
-- returns  one row an offence: (image_key, image_id, times)
SELECT m.image_key, m.image_id, count(d.image_key) AS times
FROM manifest AS m
LEFT JOIN done AS d USING (image_key)
GROUP BY ALL
HAVING times <> 1
