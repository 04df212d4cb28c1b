-- curves: profile_sums of precision_at_k and precision_at_k_capped for every k from 1 to $depth, straight from what was found.
-- reads    found, profiles, candidates
-- returns  one row a metric, k and profile: (metric, k, profile, n, total, squares, chance), as the two files under sql/metrics define them
-- how      hits up to k are a running sum over ranks, and so are their squares: the n-th hit adds 2n - 1 to the square. Queries of one profile
--          share it where as many images are relevant, and as many candidates, so far as the depth can tell; whole 2^-60 as in profile_sums.sql
WITH asked AS (
    SELECT query_key, profile, least(n_relevant, $depth) AS most_relevant, least(n_candidates, $depth) AS most,
           CASE WHEN n_candidates > 0 THEN n_relevant / n_candidates::DOUBLE ELSE 0 END AS prevalence
    FROM profiles
    JOIN candidates USING (query_key)
), kinds AS (
    SELECT profile, most_relevant, most, count(*) AS n, sum((prevalence * 2 ** 60)::HUGEINT) / 2 ** 60 AS prevalence FROM asked GROUP BY ALL
), added AS (
    SELECT a.profile, a.most_relevant, a.most, f.rank AS k,
           count(*) AS hits, sum(2 * f.n_found - 1) AS squares,
           count(*) FILTER (WHERE f.rank <= a.most_relevant) AS capped_hits,
           sum(2 * f.n_found - 1) FILTER (WHERE f.rank <= a.most_relevant) AS capped_squares
    FROM found AS f
    JOIN asked AS a USING (query_key)
    WHERE f.rank <= $depth
    GROUP BY ALL
), running AS (
    SELECT t.profile, t.most_relevant, t.most, t.n, t.prevalence, d.k,
           sum(a.hits) OVER upward AS hits, sum(a.squares) OVER upward AS squares,
           sum(a.capped_hits) OVER upward AS capped_hits, sum(a.capped_squares) OVER upward AS capped_squares
    FROM kinds AS t
    CROSS JOIN (SELECT unnest(range(1, $depth + 1)) AS k) AS d
    LEFT JOIN added AS a USING (profile, most_relevant, most, k)
    WINDOW upward AS (PARTITION BY t.profile, t.most_relevant, t.most ORDER BY d.k)
), both_kinds AS (
    SELECT 'precision_at_k' AS metric, k, profile, n, hits, squares, k AS places, prevalence * least(k, most) / k AS chance FROM running
    UNION ALL
    SELECT 'precision_at_k_capped', k, profile, n, capped_hits, capped_squares, greatest(1, least(k, most_relevant)), prevalence FROM running
)
SELECT metric, k::INTEGER AS k, profile, sum(n) AS n,
       sum((coalesce(hits, 0) / places::DOUBLE * 2 ** 60)::HUGEINT) / 2 ** 60 AS total,
       sum((coalesce(squares, 0) / (places::DOUBLE * places) * 2 ** 60)::HUGEINT) / 2 ** 60 AS squares,
       sum((chance * 2 ** 60)::HUGEINT) / 2 ** 60 AS chance
FROM both_kinds
GROUP BY metric, k, profile
