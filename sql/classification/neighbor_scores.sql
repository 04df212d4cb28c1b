-- neighbor_scores: the votes that a label has among the first $k neighbors.    score = neighbors with the label / $k
-- reads    neighbors(query_key, neighbor_key, rank), judged, carriers
-- returns  one row a query and label with a vote: (query_key, code, score in (0, 1], turn: the rank of its last vote)
-- edges    fewer than $k neighbors: divided by $k all the same; a neighbor without a label votes for none
-- differs  Denner et al. 2024: as_published/capped_scores.sql
SELECT n.query_key, c.code, count(*) / $k::DOUBLE AS score, max(n.rank)::INTEGER AS turn
FROM neighbors AS n
SEMI JOIN judged AS j ON j.query_key = n.query_key
JOIN carriers AS c ON c.image_key = n.neighbor_key
WHERE n.rank <= $k
GROUP BY n.query_key, c.code
