-- judged: the relevance that the report judges by, and the depth of its tables by slice.
-- reads    metrics, searches
-- returns  one row: (relevance: label if any query has one, else region, else modality; k: 5, else the nearest k that slices have,
--          the smaller of two as near)
WITH figures AS (
    SELECT m.* FROM metrics AS m JOIN searches AS s USING (encoder, index)
    WHERE s.question = 1 AND s.turn = 1 AND m.metric = 'precision_at_k'
), chosen AS (
    SELECT relevance FROM figures GROUP BY relevance ORDER BY list_position(['label', 'region', 'modality'], relevance) LIMIT 1
)
SELECT relevance, arg_min(k, abs(k - 5) + k / 1e9) FILTER (WHERE slice_by <> 'all') AS k
FROM figures
WHERE relevance = (SELECT relevance FROM chosen)
GROUP BY relevance
