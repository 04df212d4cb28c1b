-- slices: the groups of queries that figures are given for.
-- reads    manifest, queries
-- returns  one row a query and group: (query_key, slice_by, slice)
-- edges    a query with several labels is in the group of each
SELECT query_key, 'all' AS slice_by, 'all' AS slice FROM queries
UNION ALL
SELECT q.query_key, 'label', unnest(m.labels) FROM queries AS q JOIN manifest AS m ON m.image_key = q.query_key
UNION ALL
SELECT q.query_key, 'region', m.region FROM queries AS q JOIN manifest AS m ON m.image_key = q.query_key
UNION ALL
SELECT q.query_key, 'modality', m.modality FROM queries AS q JOIN manifest AS m ON m.image_key = q.query_key
UNION ALL
SELECT q.query_key, 'dataset', m.dataset FROM queries AS q JOIN manifest AS m ON m.image_key = q.query_key
