-- hubness: whether a few gallery images are everybody's neighbors. N(x) = queries that have x among their first $k neighbors
--          skewness = mean((N - mean N)^3) / std(N)^3 over the gallery  (Radovanovic, Nanopoulos and Ivanovic 2010): 0 where all are found alike
-- reads    neighbors(query_key, neighbor_key, rank), gallery(image_key), queries(query_key)
-- returns  one row: (k, skewness?, never_found: share of the gallery, top_share: of all places, those of the most found 1 % (at least one
--          image), most_found, most_found_key?, n_queries, gallery_size)
-- edges    all images are found equally often: no skewness (NULL); equally often found: the smaller key
-- how      moments in whole numbers: with N images and S1, S2, S3 the sums of N(x), its square and its cube, skewness =
--          (N^2 S3 - 3 N S1 S2 + 2 S1^3) / (N S2 - S1^2)^1.5; sums of floating-point numbers would depend on the order in which threads come
WITH times AS (
    SELECT g.image_key, coalesce(t.n, 0) AS n
    FROM gallery AS g
    LEFT JOIN (SELECT neighbor_key, count(*) AS n FROM neighbors WHERE rank <= $k GROUP BY neighbor_key) AS t ON t.neighbor_key = g.image_key
), sums AS (
    SELECT count(*)::HUGEINT AS images, coalesce(sum(n), 0)::HUGEINT AS s1, sum(n * n)::HUGEINT AS s2, sum(n * n * n)::HUGEINT AS s3 FROM times
), moments AS (
    SELECT *, images * s2 - s1 * s1 AS variance, images * images * s3 - 3 * images * s1 * s2 + 2 * s1 * s1 * s1 AS third FROM sums
), top AS (
    SELECT sum(n) AS n FROM (SELECT n FROM times ORDER BY n DESC LIMIT (SELECT greatest(1, images // 100) FROM sums))
)
SELECT $k::INTEGER AS k,
       any_value(CASE WHEN m.variance > 0 THEN m.third::DOUBLE / m.variance::DOUBLE ** 1.5 END) AS skewness,
       count(*) FILTER (WHERE t.n = 0) / count(*)::DOUBLE AS never_found,
       coalesce((SELECT n FROM top) / nullif(any_value(m.s1), 0)::DOUBLE, 0) AS top_share,
       max(t.n)::BIGINT AS most_found,
       arg_min(t.image_key, (-t.n, t.image_key)) FILTER (WHERE t.n > 0) AS most_found_key,
       (SELECT count(*) FROM queries WHERE embedded) AS n_queries,
       count(*) AS gallery_size
FROM times AS t, moments AS m
