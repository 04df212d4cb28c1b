-- sets: how many gallery images have the same classes.
-- reads    held, judged
-- returns  one row a set and pool: (class_set, pool, images)
SELECT class_set, pool, sum(images)::BIGINT AS images
FROM (SELECT kind, count(*) AS images FROM held GROUP BY kind)
JOIN judged USING (kind)
GROUP BY class_set, pool
