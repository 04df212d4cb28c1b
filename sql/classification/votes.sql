-- votes: how many of its first k neighbors vote for a label, for every k from 1 to $depth. The count changes only at a rank where a neighbor has the
--          label, so one row says it for all k up to the next such rank.
-- reads    neighbors(query_key, neighbor_key, rank), judged, carriers
-- returns  one row a query, label and count: (query_key, code, votes: from 1, first_k, last_k: the k for which it holds)
-- edges    a label that none of the first k neighbors has: no row, the count is 0. Fewer neighbors than k: the count stays, and is divided by k
-- differs  Denner et al. 2024 let only the first min(k, gallery images of the query's own label) vote, which tells the classifier the truth
SELECT n.query_key,
       c.code,
       row_number() OVER by_rank AS votes,
       n.rank::INTEGER AS first_k,
       (coalesce(lead(n.rank) OVER by_rank, $depth + 1) - 1)::INTEGER AS last_k
FROM neighbors AS n
SEMI JOIN judged AS j ON j.query_key = n.query_key
JOIN carriers AS c ON c.image_key = n.neighbor_key
WHERE n.rank <= $depth
WINDOW by_rank AS (PARTITION BY n.query_key, c.code ORDER BY n.rank)
