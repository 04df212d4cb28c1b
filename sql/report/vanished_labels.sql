-- vanished_labels: labels with nothing to find in the smaller samples, whose queries are left out of the figures there.
-- reads    vanished, scaling
-- returns  one row an encoder, label and size: (..., samples: how many of that size, gone: in how many of them no query of the label is left,
--          touched: in how many some are left out, n_queries: of the label, left out, the mean over all samples of that size,
--          n_vanished: of all labels, left out, the mean over those samples that leave any in; NULL where none does)
-- edges    a query with several labels counts in n_queries of each, and once in n_vanished
WITH samples AS (
    SELECT encoder, sampling, sample_size, seed, any_value(gallery_size) AS gallery_size,
           max(n_vanished) FILTER (WHERE relevance = 'label' AND slice_by = 'all') AS n_vanished
    FROM scaling
    GROUP BY encoder, sampling, sample_size, seed
), sizes AS (
    SELECT encoder, sampling, sample_size, round(avg(gallery_size))::BIGINT AS gallery_size, count(*) AS samples, avg(n_vanished) AS n_vanished
    FROM samples
    GROUP BY encoder, sampling, sample_size
), missing AS (
    SELECT encoder, sampling, label, sample_size, count(*) FILTER (WHERE is_gone) AS gone, count(*) AS touched, sum(n_queries) AS n_queries
    FROM vanished
    WHERE relevance = 'label'
    GROUP BY ALL
)
SELECT encoder, sampling, label, gallery_size, samples, gone, touched, n_queries / samples AS n_queries, n_vanished
FROM missing JOIN sizes USING (encoder, sampling, sample_size)
ORDER BY label, encoder, sampling, gallery_size
