-- copies: the first $groups groups of copies of one problem, at most $pictures images of each.
-- reads    problems(problem, group_id, image_key, detail), manifest
-- returns  one row an image: (group_id, image_id, uri, split, labels)
WITH ranked AS (
    SELECT group_id, image_key, dense_rank() OVER (ORDER BY group_id) AS place, row_number() OVER (PARTITION BY group_id ORDER BY detail) AS number
    FROM problems
    WHERE problem = $problem
)
SELECT group_id, image_id, uri, split, labels
FROM ranked JOIN manifest USING (image_key)
WHERE place <= $groups AND number <= $pictures
ORDER BY group_id, number
