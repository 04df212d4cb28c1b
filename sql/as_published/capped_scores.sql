-- capped_scores: kNN classification in which only as many neighbors vote as gallery images have the query's own label, which the classifier should not know.
--          score of a label = neighbors with it among the first n / n, n = min($k, gallery images with the query's label)
-- reads    neighbors, carriers, caps
-- returns  one row a query and label with a vote: (query_key, code, score in (0, 1], turn: 0)
-- edges    equal turns: of several labels with the highest score, the first column of the split files is predicted
-- differs  classification/neighbor_scores.sql: the first $k neighbors of every query, ties to the nearer
SELECT q.query_key, c.code, count(*) / least($k, any_value(q.images))::DOUBLE AS score, 0 AS turn
FROM neighbors AS n
JOIN caps AS q USING (query_key)
JOIN carriers AS c ON c.image_key = n.neighbor_key
WHERE n.rank <= least($k, q.images)
GROUP BY q.query_key, c.code
