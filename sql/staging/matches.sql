-- matches: which sets of classes are relevant to each other, and how much they overlap.
--          overlap = |classes of both| / |classes of either|  (Jaccard); 1 for images with one class each
-- reads    judged, queries, sets
-- returns  one row a pair of sets that share a class: (query_set, gallery_set, overlap in (0, 1])
WITH classes_of AS (
    SELECT DISTINCT class_set, classes FROM judged
), shared AS (
    SELECT a.class_set AS query_set, t.class_set AS gallery_set, count(*) AS common
    FROM (SELECT class_set, unnest(classes) AS class FROM classes_of SEMI JOIN queries USING (class_set)) AS a
    JOIN (SELECT class_set, unnest(classes) AS class FROM classes_of SEMI JOIN sets USING (class_set)) AS t USING (class)
    GROUP BY ALL
)
SELECT query_set, gallery_set, common / (len(a.classes) + len(t.classes) - common)::DOUBLE AS overlap
FROM shared
JOIN classes_of AS a ON a.class_set = query_set
JOIN classes_of AS t ON t.class_set = gallery_set
