-- score_counts: how many queries give a label a score: what an area under a curve needs to know.
-- reads    scores(query_key, code, score), truths
-- returns  (k: $k, code, score, positives: queries with that score that have the label, negatives: those that have not)
-- edges    scores without a row are 0: roc_auc infers them
SELECT $k::INTEGER AS k, s.code, s.score::DOUBLE AS score, count(t.code) AS positives, count(*) - count(t.code) AS negatives
FROM scores AS s
LEFT JOIN truths AS t USING (query_key, code)
GROUP BY s.code, s.score
