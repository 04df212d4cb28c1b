-- searches: the searches that have figures, grouped by the question that they ask.
--          question = same gallery, same queries, same exclusions; only figures of one question can be compared
-- reads    runs(encoder, index, approximate, dim, random_weights, gallery, queries, exclude_same, queries_asked, not_embedded, ...)
-- returns  runs with: question (1 is the one that most encoders were searched exactly for), turn (1 is the search that
--          stands for its encoder in figures: exact before approximate)
-- edges    questions that as many encoders answer: the one with more queries first
WITH questions AS (
    SELECT gallery, queries, exclude_same,
           row_number() OVER (ORDER BY count(DISTINCT encoder) FILTER (WHERE NOT approximate) DESC, count(DISTINCT encoder) DESC,
                                       max(queries_asked) DESC, exclude_same, gallery, queries) AS question
    FROM runs
    GROUP BY ALL
)
SELECT r.*, q.question,
       row_number() OVER (PARTITION BY q.question, r.encoder ORDER BY r.approximate, r.index <> 'exact', r.index) AS turn
FROM runs AS r
JOIN questions AS q USING (gallery, queries, exclude_same)
ORDER BY q.question, r.encoder, turn
