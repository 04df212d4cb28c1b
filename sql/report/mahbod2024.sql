-- mahbod2024: the paper's figures of one set of MedMNIST, and those of the study that are of the same images, size and encoder.
-- reads    published, metrics, comparable(encoder, index, dataset, image_size, cbmir_encoder, distance, remark?): searches of just that set
-- returns  (image_size, encoder, printed_metric, published?, printed?, note?, ours?, difference?, distance?, remark?) of $dataset, by size, $encoders, $metrics
SELECT p.image_size, p.encoder, p.printed_metric, p.value AS published, p.printed, p.note, m.value AS ours, m.value - p.value AS difference,
       CASE WHEN m.value IS NOT NULL THEN c.distance END AS distance, CASE WHEN m.value IS NOT NULL THEN c.remark END AS remark
FROM published AS p
LEFT JOIN comparable AS c ON c.dataset = p.dataset AND c.image_size = p.image_size AND c.cbmir_encoder = p.cbmir_encoder
LEFT JOIN metrics AS m ON m.encoder = c.encoder AND m.index = c.index AND m.metric = p.metric AND m.k = p.k AND m.average = p.average
                      AND m.relevance = 'label' AND m.slice_by = 'all'
WHERE p.paper = 'mahbod2024' AND p.dataset = $dataset
ORDER BY p.image_size, list_position($encoders, p.encoder), list_position($metrics, p.printed_metric)
