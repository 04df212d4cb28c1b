-- profile_sums: the values of queries, summed up over those that are in the same cells.
-- reads    query_values(query_key, metric, k?, value, chance?), profiles
-- returns  one row a metric, k and profile: (metric, k?, profile, n, total, squares, chance?: NULL where that of any query is unknown)
-- how      added up in whole 2^-60: sums of floating-point numbers depend on the order in which threads come, and so would the bytes written
SELECT v.metric, v.k, p.profile, count(*) AS n,
       sum((v.value * 2 ** 60)::HUGEINT) / 2 ** 60 AS total,
       sum((v.value * v.value * 2 ** 60)::HUGEINT) / 2 ** 60 AS squares,
       CASE WHEN count(v.chance) = count(*) THEN sum((v.chance * 2 ** 60)::HUGEINT) / 2 ** 60 END AS chance
FROM query_values AS v
JOIN profiles AS p USING (query_key)
GROUP BY ALL
