-- searches: the searches that have figures of the whole gallery, grouped by the question that they ask.
--          question = same gallery, same queries, same exclusions, in whatever words they were asked; only figures of one question can be compared
-- reads    runs(dataset, encoder, index, parameters: JSON, question: the fingerprint in run.json,
--          approximate: through an index, queries_asked, ...), metrics
-- returns  runs of neighbors with: is_exact, gallery, queries, exclude_same (of its parameters), question (1 is the one that most encoders
--          were searched exactly for), turn (1 is the search that stands for its encoder in figures: exact before
--          others, approximate last; of those of volumes by their slices, late interaction first)
-- edges    questions that as many encoders answer: the one with more queries first, then the one without exclusions
WITH found AS (
    SELECT r.* EXCLUDE (dataset, parameters), r.parameters->>'index' = 'exact' AS is_exact, r.parameters->>'gallery' AS gallery,
           r.parameters->>'queries' AS queries, array_to_string((r.parameters->'exclude_same')::VARCHAR[], ', ') AS exclude_same
    FROM runs AS r
    SEMI JOIN metrics AS m ON m.encoder = r.encoder AND m.index = r.index AND m.metric = 'precision_at_k' AND m.seed IS NULL
    WHERE r.dataset = 'neighbors'
), questions AS (
    SELECT question AS asked,
           row_number() OVER (ORDER BY count(DISTINCT encoder) FILTER (WHERE is_exact) DESC, count(DISTINCT encoder) FILTER (WHERE NOT approximate) DESC,
                                       count(DISTINCT encoder) DESC, max(queries_asked) DESC, min(exclude_same), min(gallery), min(queries), question) AS number
    FROM found
    GROUP BY question
)
SELECT f.* REPLACE (q.number AS question),
       row_number() OVER (PARTITION BY q.number, f.encoder ORDER BY NOT f.is_exact, f.approximate, f.index <> 'exact', f.index <> 'late', f.index) AS turn
FROM found AS f
JOIN questions AS q ON q.asked = f.question
ORDER BY q.number, f.encoder, turn
