-- slices: the groups of queries that figures are given for.
-- reads    manifest, queries, further_slices(image_key, slice_by, slice: of columns that were asked for by name)
-- returns  one row a query and group: (query_key, slice_by, slice), of all queries and of those groups that $slices names
-- edges    a query with several labels is in the group of each; without one, in none
WITH asking AS (
    SELECT q.query_key, m.labels, m.region, m.modality, m.dataset FROM queries AS q JOIN manifest AS m ON m.image_key = q.query_key
), groups AS (
    SELECT query_key, 'label' AS slice_by, unnest(list_distinct(labels)) AS slice FROM asking
    UNION ALL
    SELECT query_key, 'region', region FROM asking
    UNION ALL
    SELECT query_key, 'modality', modality FROM asking
    UNION ALL
    SELECT query_key, 'dataset', dataset FROM asking
    UNION ALL
    SELECT q.query_key, f.slice_by, f.slice FROM further_slices AS f JOIN queries AS q ON q.query_key = f.image_key
)
SELECT query_key, 'all' AS slice_by, 'all' AS slice FROM queries
UNION ALL
SELECT query_key, slice_by, slice FROM groups WHERE list_contains($slices, slice_by)
