-- pairs_in_pool: what each query found in its own pool, ranked anew.
-- reads    pairs, judged
-- returns  one row a neighbor that stays: (query_key, rank from 1, query_kind, kind)
-- edges    neighbors end at the search's depth, so that fewer of the pool may be known than there are: sql/report/cut_short.sql says how often
SELECT p.query_key, row_number() OVER (PARTITION BY p.query_key ORDER BY p.rank) AS rank, p.query_kind, p.kind
FROM pairs AS p
JOIN judged AS q ON q.kind = p.query_kind
JOIN judged AS g ON g.kind = p.kind
WHERE q.pool = g.pool AND q.pool <> 'unknown'
