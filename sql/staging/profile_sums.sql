-- profile_sums: the values of queries, summed up over those that are in the same cells.
-- reads    query_values(query_key, metric, k?, value, chance?), profiles
-- returns  one row a metric, k and profile: (metric, k?, profile, n, total, squares, chance?)
SELECT v.metric, v.k, p.profile, count(*) AS n, sum(v.value) AS total, sum(v.value * v.value) AS squares, sum(v.chance) AS chance
FROM query_values AS v
JOIN profiles AS p USING (query_key)
GROUP BY ALL
