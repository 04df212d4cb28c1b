-- vanished_labels: labels with nothing to find in the smaller samples, whose queries are left out of the figures there.
-- reads    vanished, scaling
-- returns  one row an encoder, label and size: (..., samples: how many of that size, gone: in how many of them no query of the label is left,
--          touched: in how many some are left out, n_queries: left out, the mean over all samples of that size)
WITH sizes AS (
    SELECT encoder, sampling, sample_size, round(avg(gallery_size))::BIGINT AS gallery_size, count(DISTINCT seed) AS samples FROM scaling GROUP BY ALL
), missing AS (
    SELECT encoder, sampling, label, sample_size, count(*) FILTER (WHERE is_gone) AS gone, count(*) AS touched, sum(n_queries) AS n_queries
    FROM vanished
    WHERE relevance = 'label'
    GROUP BY ALL
)
SELECT encoder, sampling, label, gallery_size, samples, gone, touched, n_queries / samples AS n_queries
FROM missing JOIN sizes USING (encoder, sampling, sample_size)
ORDER BY label, encoder, sampling, gallery_size
