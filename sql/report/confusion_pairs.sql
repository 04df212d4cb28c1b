-- confusion_pairs: the $n most frequent confusions of each encoder's standing search.
--          queries = share * n_queries: of the queries with `label`, how many have `retrieved` at their nearest neighbor in its place
-- reads    confusions, searches
-- returns  (encoder, label, retrieved, share, queries, n_queries), the most frequent first
-- edges    retrieved '' (no neighbor, or one without a label) is a confusion, too; equal counts: the larger share first
SELECT c.encoder, c.label, c.retrieved, c.share, c.share * c.n_queries AS queries, c.n_queries
FROM confusions AS c
JOIN searches AS s USING (encoder, index)
WHERE s.question = 1 AND s.turn = 1 AND c.retrieved <> c.label
QUALIFY row_number() OVER (PARTITION BY c.encoder ORDER BY queries DESC, c.share DESC, c.label, c.retrieved) <= $n
ORDER BY c.encoder, queries DESC, c.share DESC, c.label, c.retrieved
