-- denner2024: P@k, with no more places than there are relevant images, of the study's encoders and of the paper.
-- reads    metrics, searches, published
-- returns  (source: study or paper, encoder, average?, k, value?, ci_low?, ci_high?, random_weights?, published?, note?): question 1, exact searches;
--          a figure of the paper stands beside one of the study where encoder, average and k agree and $same_images; else in a row of its own
-- edges    the paper does not say which average it prints: NULL, which agrees with none
WITH ours AS (
    SELECT m.encoder, m.average, m.k, m.value, m.ci_low, m.ci_high, s.random_weights
    FROM metrics AS m
    JOIN searches AS s USING (encoder, index)
    WHERE s.question = 1 AND s.turn = 1 AND s.is_exact AND m.metric = 'precision_at_k_capped' AND m.relevance = 'label' AND m.slice_by = 'all'
      AND list_contains($ks, m.k)
), theirs AS (
    SELECT * FROM published WHERE paper = 'denner2024'
)
SELECT CASE WHEN o.encoder IS NULL THEN 'paper' ELSE 'study' END AS source, coalesce(o.encoder, t.encoder) AS encoder,
       coalesce(o.average, t.average) AS average, coalesce(o.k, t.k) AS k, o.value, o.ci_low, o.ci_high, o.random_weights, t.value AS published, t.note
FROM ours AS o
FULL JOIN theirs AS t ON t.cbmir_encoder = o.encoder AND t.average = o.average AND t.k = o.k AND $same_images
ORDER BY source DESC, max(o.value) FILTER (WHERE o.average = 'micro' AND o.k = 1) OVER (PARTITION BY o.encoder) DESC NULLS LAST, encoder, average DESC, k
