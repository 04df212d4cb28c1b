-- hubness: whether a few gallery images are everybody's neighbors. N(x) = queries that have x among their first $k neighbors
--          skewness = mean((N - mean N)^3) / std(N)^3 over the gallery  (Radovanovic, Nanopoulos and Ivanovic 2010): 0 where all are found alike
-- reads    neighbors(query_key, neighbor_key, rank), gallery(image_key), queries(query_key)
-- returns  one row: (k, skewness?, never_found: share of the gallery, top_share: of all places, those of the most found 1 % (at least one
--          image), most_found, most_found_key?, n_queries, gallery_size)
-- edges    all images are found equally often: no skewness (NULL); equally often found: the smaller key
WITH times AS (
    SELECT g.image_key, coalesce(t.n, 0)::DOUBLE AS n
    FROM gallery AS g
    LEFT JOIN (SELECT neighbor_key, count(*) AS n FROM neighbors WHERE rank <= $k GROUP BY neighbor_key) AS t ON t.neighbor_key = g.image_key
), centre AS (
    SELECT avg(n) AS mean, var_pop(n) AS variance, count(*) AS images, sum(n) AS places FROM times
), top AS (
    SELECT sum(n) AS n FROM (SELECT n FROM times ORDER BY n DESC LIMIT (SELECT greatest(1, images // 100) FROM centre))
)
SELECT $k::INTEGER AS k,
       CASE WHEN any_value(c.variance) > 0 THEN avg((t.n - c.mean) ** 3) / any_value(c.variance) ** 1.5 END AS skewness,
       count(*) FILTER (WHERE t.n = 0) / count(*)::DOUBLE AS never_found,
       coalesce((SELECT n FROM top) / nullif(any_value(c.places), 0), 0) AS top_share,
       max(t.n)::BIGINT AS most_found,
       arg_min(t.image_key, (-t.n, t.image_key)) FILTER (WHERE t.n > 0) AS most_found_key,
       (SELECT count(*) FROM queries WHERE embedded) AS n_queries,
       count(*) AS gallery_size
FROM times AS t, centre AS c
