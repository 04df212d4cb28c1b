-- image_sizes: each encoder's figures at each image size, and how far they are from those at the largest size.
--              difference = value at this size - value at the largest, over the same queries; p by exchanging queries patient by patient
-- reads    sizes(encoder, base_encoder, image_size, seconds_per_image?), metrics, comparisons: of exact searches, over all queries at label, micro
-- returns  one row an encoder, size and figure: (base_encoder, image_size, metric, k, value, ci_low?, ci_high?, chance?, n_queries, gallery_size,
--          difference?, difference_low?, difference_high?, p_value?, p_holm?, seconds_per_image?), for precision_at_k at $first and
--          average_precision_over_hits_at_k at $deep
-- edges    the largest size is not compared with itself: NULL; so are all where nothing was resampled
WITH asked(metric, k) AS (
    VALUES ('precision_at_k', $first), ('average_precision_over_hits_at_k', $deep)
), largest AS (
    SELECT base_encoder, max_by(encoder, image_size) AS largest FROM sizes GROUP BY base_encoder
), both_ways AS (
    SELECT encoder_a AS encoder, encoder_b AS other, metric, k, difference, ci_low AS difference_low, ci_high AS difference_high, p_value, p_holm
    FROM comparisons
    WHERE relevance = 'label' AND slice_by = 'all' AND average = 'micro' AND index_a = 'exact' AND index_b = 'exact'
    UNION ALL
    SELECT encoder_b, encoder_a, metric, k, -difference, -ci_high, -ci_low, p_value, p_holm
    FROM comparisons
    WHERE relevance = 'label' AND slice_by = 'all' AND average = 'micro' AND index_a = 'exact' AND index_b = 'exact'
)
SELECT s.base_encoder, s.image_size, m.metric, m.k, m.value, m.ci_low, m.ci_high, m.chance, m.n_queries, m.gallery_size,
       c.difference, c.difference_low, c.difference_high, c.p_value, c.p_holm, s.seconds_per_image
FROM sizes AS s
JOIN largest AS l USING (base_encoder)
JOIN metrics AS m ON m.encoder = s.encoder
JOIN asked AS a ON a.metric = m.metric AND a.k = m.k
LEFT JOIN both_ways AS c ON c.encoder = s.encoder AND c.other = l.largest AND c.metric = m.metric AND c.k = m.k
WHERE m.index = 'exact' AND m.relevance = 'label' AND m.slice_by = 'all' AND m.average = 'micro'
ORDER BY s.base_encoder, m.metric DESC, s.image_size
