-- mahbod2024: the figures of searches in the protocol of Mahbod et al. 2024, and those that the paper prints of the same set and size.
-- reads    published, metrics, asked(turn, encoder, index, name, base?, distance): exact searches of all test images in all training images
-- returns  (is_published, turn, encoder, cbmir_encoder?, distance, printed_metric, value?, ci_low?, ci_high?, n_queries?, n_failed?, printed?, note?): those asked for
--          by turn; then of the paper those of $dataset at $image_size, in the order of $encoders; each with all of $metrics
-- edges    a figure that there is not (queries without label, a row that the paper lacks): NULL
WITH figures AS (
    SELECT printed_metric, any_value(metric) AS metric, any_value(k) AS k, any_value(average) AS average
    FROM published WHERE paper = 'mahbod2024' GROUP BY printed_metric
), ours AS (
    SELECT false AS is_published, a.turn, a.name AS encoder, a.base AS cbmir_encoder, a.distance, f.printed_metric, m.value, m.ci_low, m.ci_high,
           m.n_queries, m.n_failed, NULL::VARCHAR AS printed, NULL::VARCHAR AS note
    FROM asked AS a
    CROSS JOIN figures AS f
    LEFT JOIN metrics AS m ON m.encoder = a.encoder AND m.index = a.index AND m.metric = f.metric AND m.k = f.k AND m.average = f.average
                          AND m.relevance = 'label' AND m.slice_by = 'all'
), theirs AS (
    SELECT true AS is_published, list_position($encoders, encoder) AS turn, encoder, cbmir_encoder, 'Euclidean' AS distance, printed_metric,
           value, NULL::DOUBLE AS ci_low, NULL::DOUBLE AS ci_high, NULL::BIGINT AS n_queries, NULL::BIGINT AS n_failed, printed, note
    FROM published WHERE paper = 'mahbod2024' AND dataset = $dataset AND image_size = $image_size
)
FROM ours UNION ALL FROM theirs
ORDER BY is_published, turn, list_position($metrics, printed_metric)
