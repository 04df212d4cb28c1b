-- precision_at_k_capped: precision with no more places than there are relevant images.
--          P@min(k, R) = |relevant in the top min(k, R)| / min(k, R),  R = relevant images in the gallery; 1 can be reached at every k
-- reads    queries(query_key), found(query_key, rank), candidates(query_key, n_relevant)
-- returns  one row a query: (query_key, value in [0, 1])
-- edges    R = 0 (an unanswerable query): 0, and it stays; images that the search passes over (same patient) are not counted in R
-- differs  Denner et al. 2024, who define it, lose queries with R = 0 (0 / 0): evaluate --as-published denner2024
SELECT q.query_key, count(f.rank) / greatest(1, least($k, any_value(c.n_relevant)))::DOUBLE AS value
FROM queries AS q
JOIN candidates AS c ON c.query_key = q.query_key
LEFT JOIN found AS f ON f.query_key = q.query_key AND f.rank <= least($k, c.n_relevant)
GROUP BY q.query_key
