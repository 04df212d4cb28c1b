-- held: every image that a search could find.
-- reads    manifest, kinds, gallery_keys(image_key), embedded(image_key)
-- returns  one row a gallery image that was embedded: (image_key, kind)
SELECT m.image_key, k.kind
FROM manifest AS m
SEMI JOIN gallery_keys AS g USING (image_key)
SEMI JOIN embedded AS e USING (image_key)
JOIN kinds AS k ON k.labels = list_sort(list_distinct(m.labels)) AND k.region = m.region AND k.modality = m.modality
