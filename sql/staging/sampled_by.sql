-- sampled_by: what decides when an image joins a stratified sample, or one of whole patients.
-- reads    manifest, gallery_keys(image_key)
-- returns  one row an image, ascending by key: (labels, patient: NULL where there is none)
-- edges    patient '1' of one dataset is not patient '1' of another
SELECT labels, dataset || chr(31) || patient_id AS patient
FROM manifest
SEMI JOIN gallery_keys USING (image_key)
ORDER BY image_key
