-- gallery: the images that can be found, with the classes that make one relevant to a query.
-- reads    manifest, gallery_keys(image_key: what the search's predicate selects), embedded(image_key)
-- returns  one row a gallery image that was embedded: (image_key, classes at relevance $relevance)
-- edges    an image without a label (region, modality 'unknown') stays, with no class: it can be found, and is not relevant
SELECT m.image_key,
       list_filter(
           CASE $relevance WHEN 'label' THEN m.labels WHEN 'region' THEN [m.region] WHEN 'modality' THEN [m.modality] END,
           lambda class: class <> 'unknown') AS classes
FROM manifest AS m
JOIN gallery_keys USING (image_key)
JOIN embedded USING (image_key)
