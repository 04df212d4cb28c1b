-- image_size: P@k and mAP@5 against the size to which images were brought before they were embedded.
-- reads    image_sizes, metrics, searches(see searches.sql)
-- returns  one row an encoder, size, metric, k and average: its figure over all queries, by the search that stands for it in the question that most of these
--          encoders answer; at label relevance where there is one, else region, else modality
-- edges    mAP@5 is average_precision_over_hits_at_k; where the study has no figure at 5, at its largest k below, else its smallest
WITH sized AS (
    SELECT i.base_encoder, i.image_size, i.seconds_per_image, i.encoder, s.index, s.is_exact, s.question
    FROM image_sizes AS i
    JOIN searches AS s USING (encoder)
    WHERE s.turn = 1
), asked AS (
    SELECT question FROM sized GROUP BY question ORDER BY count(*) DESC, question LIMIT 1
), figures AS (
    SELECT s.question, s.base_encoder, s.image_size, s.is_exact, s.seconds_per_image, m.*
    FROM sized AS s
    SEMI JOIN asked USING (question)
    JOIN metrics AS m ON m.encoder = s.encoder AND m.index = s.index
    WHERE m.metric IN ('precision_at_k', 'average_precision_over_hits_at_k') AND m.slice_by = 'all' AND m.seed IS NULL
      AND m.relevance IN ('label', 'region', 'modality')
)
SELECT question, (SELECT max(question) FROM searches) AS questions, base_encoder, image_size, encoder, index, is_exact, relevance, metric, k, average,
       value, ci_low, ci_high, chance, n_queries, gallery_size, seconds_per_image
FROM figures
WHERE relevance = (SELECT arg_min(relevance, list_position(['label', 'region', 'modality'], relevance)) FROM figures)
  AND (metric = 'precision_at_k'
       OR k = (SELECT arg_min(k, (k > 5, abs(k - 5))) FROM figures WHERE metric = 'average_precision_over_hits_at_k'))
ORDER BY metric DESC, k, average DESC, base_encoder, image_size
