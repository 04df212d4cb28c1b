-- vanished_lines: how many labels a size loses.
-- reads    vanished
-- returns  one row an encoder of $encoders, sampling and size: (encoder, sampling, sample_size, most labels that a seed loses, most queries that
--          these are, the first of the labels)
WITH of_seed AS (
    SELECT DISTINCT encoder, sampling, seed, sample_size, label, n_queries
    FROM vanished
    WHERE relevance = 'label' AND is_gone AND list_contains($encoders, encoder)
), counted AS (
    SELECT encoder, sampling, seed, sample_size, count(*) AS labels, sum(n_queries) AS queries, min(label) AS first FROM of_seed GROUP BY ALL
)
SELECT encoder, sampling, sample_size, max(labels), max(queries)::BIGINT, min(first)
FROM counted
GROUP BY ALL
ORDER BY ALL
