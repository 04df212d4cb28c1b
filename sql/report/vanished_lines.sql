-- vanished_lines: how many labels a size loses.
-- reads    vanished, scaling
-- returns  one row an encoder of $encoders, sampling and size: (encoder, sampling, sample_size, most labels that a seed loses, most queries that
--          a sample leaves out of its figures at label; NULL where it leaves none in, the first of the labels)
-- edges    a query with several labels counts once
WITH lost AS (
    SELECT encoder, sampling, seed, sample_size, count(DISTINCT label) AS labels, min(label) AS first
    FROM vanished
    WHERE relevance = 'label' AND is_gone AND list_contains($encoders, encoder)
    GROUP BY encoder, sampling, seed, sample_size
), left_out AS (
    SELECT encoder, sampling, seed, sample_size, max(n_vanished) AS queries
    FROM scaling
    WHERE relevance = 'label' AND slice_by = 'all'
    GROUP BY encoder, sampling, seed, sample_size
)
SELECT encoder, sampling, sample_size, max(labels), CASE WHEN count(queries) = count(*) THEN max(queries) END, min(first)
FROM lost
LEFT JOIN left_out USING (encoder, sampling, seed, sample_size)
GROUP BY encoder, sampling, sample_size
ORDER BY ALL
