-- searches: the searches that have figures, grouped by the question that they ask.
--          question = same gallery, same queries, same exclusions; only figures of one question can be compared
-- reads    runs(encoder, index, approximate, dim, random_weights, gallery, queries, exclude_same, queries_asked, not_embedded, ...)
-- returns  runs with: question (1 is the one that most encoders were searched exactly for), turn (1 is the search that
--          stands for its encoder in figures: exact before approximate)
-- edges    questions that as many encoders answer: the one with more queries first
WITH counted AS (
    SELECT gallery, queries, exclude_same, count(DISTINCT encoder) AS encoders, max(queries_asked) AS most,
           count(DISTINCT encoder) FILTER (WHERE NOT approximate) AS searched_exactly
    FROM runs
    GROUP BY ALL
), questions AS (
    SELECT gallery, queries, exclude_same,
           row_number() OVER (ORDER BY searched_exactly DESC, encoders DESC, most DESC, exclude_same, gallery, queries) AS question
    FROM counted
)
SELECT r.*, q.question,
       row_number() OVER (PARTITION BY q.question, r.encoder ORDER BY r.approximate, r.index <> 'exact', r.index) AS turn
FROM runs AS r
JOIN questions AS q USING (gallery, queries, exclude_same)
ORDER BY q.question, r.encoder, turn
