-- cells: which queries make which figure. A figure is the mean over its cells of the mean over the queries of each:
--          micro has one cell, macro one for each class.
-- reads    queries, slices
-- returns  one row a query and cell: (query_key, slice_by, slice, average, class: '' for micro)
-- edges    a query in several classes is in the cell of each; no macro for slices by $class_slice, which hold one class each
SELECT query_key, slice_by, slice, 'micro' AS average, '' AS class FROM slices
UNION ALL
SELECT s.query_key, s.slice_by, s.slice, 'macro', unnest(q.classes)
FROM slices AS s
JOIN queries AS q USING (query_key)
WHERE s.slice_by <> $class_slice
