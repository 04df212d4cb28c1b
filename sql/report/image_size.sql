-- image_size: P@k and mAP against the size to which images were brought before they were embedded.
-- reads    image_sizes, metrics
-- returns  one row an encoder, size, metric, k and average: its figure over all queries, by its exact search or, where there is none, an
--          approximate one; at label relevance where there is one, else region, else modality
WITH figures AS (
    SELECT i.base_encoder, i.image_size, i.seconds_per_image, m.*
    FROM image_sizes AS i
    JOIN metrics AS m USING (encoder)
    WHERE m.metric IN ('precision_at_k', 'average_precision') AND m.slice_by = 'all' AND m.seed IS NULL
      AND m.relevance IN ('label', 'region', 'modality')
)
SELECT base_encoder, image_size, encoder, index, relevance, metric, k, average, value, ci_low, ci_high, chance, n_queries, gallery_size,
       seconds_per_image
FROM figures
WHERE relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM figures)
QUALIFY row_number() OVER (PARTITION BY encoder, metric, k, average ORDER BY index <> 'exact', index) = 1
ORDER BY metric DESC, k, average DESC, base_encoder, image_size
