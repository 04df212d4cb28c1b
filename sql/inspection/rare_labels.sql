-- rare_labels: labels with fewer than $k images in the gallery, for which P@$k cannot reach 1.
-- reads    images(image_key, labels), gallery(image_key)
-- returns  one row a label: (group_id, image_key: null, detail)
WITH labeled AS (SELECT image_key, unnest(labels) AS label FROM images),
counts AS (
    SELECT label, count(*) FILTER (WHERE g.image_key IS NOT NULL) AS found, count(*) AS n
    FROM labeled LEFT JOIN gallery AS g USING (image_key)
    GROUP BY label
)
SELECT NULL::BIGINT AS group_id, NULL::BIGINT AS image_key, label || ': ' || found || ' in the gallery, ' || n || ' in all' AS detail
FROM counts
WHERE found < $k
ORDER BY found, label
