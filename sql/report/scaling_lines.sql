-- scaling_lines: $metric by label at each encoder's least k, recall and costs of each size, over seeds.
-- reads    scaling, scaling_costs
-- returns  one row an encoder of $encoders, index, sampling and size: (k?, encoder, index, sampling, gallery_size, micro, its standard deviation over
--          seeds, macro, its standard deviation, recall, build_seconds?, ms a query)
-- edges    one seed has no standard deviation, a metric may have no k: NULL
WITH first_k AS (
    SELECT encoder, min(k) AS k FROM scaling WHERE metric = $metric GROUP BY encoder
), costs AS (
    SELECT encoder, index, sampling, sample_size, avg(recall) AS recall, median(build_seconds) AS build,
           median(1000 * search_seconds / n_queries) AS search
    FROM scaling_costs
    GROUP BY ALL
)
SELECT f.k, s.encoder, s.index, s.sampling, avg(s.gallery_size) AS gallery_size,
       avg(s.value) FILTER (WHERE average = 'micro') AS micro, stddev_samp(s.value) FILTER (WHERE average = 'micro') AS micro_sd,
       avg(s.value) FILTER (WHERE average = 'macro') AS macro, stddev_samp(s.value) FILTER (WHERE average = 'macro') AS macro_sd,
       any_value(c.recall), any_value(c.build), any_value(c.search)
FROM scaling AS s
JOIN first_k AS f ON f.encoder = s.encoder AND f.k IS NOT DISTINCT FROM s.k
JOIN costs AS c ON c.encoder = s.encoder AND c.index = s.index AND c.sampling = s.sampling AND c.sample_size = s.sample_size
WHERE s.metric = $metric AND s.relevance = 'label' AND s.slice_by = 'all' AND list_contains($encoders, s.encoder)
GROUP BY f.k, s.encoder, s.index, s.sampling, s.sample_size
ORDER BY s.encoder, s.index, s.sampling, s.sample_size
