-- queries: the images that ask, and the classes in which each of them counts.
-- reads    asked, judged
-- returns  one row a query that can be judged: (query_key, embedded, classes, class_set, pool)
-- edges    a query that was not embedded stays, and scores 0; a query without a class (no label, region 'unknown')
--          cannot be judged at that relevance and is left out: missing is not false; where no relevance is asked (''), only what was embedded
SELECT query_key, embedded, classes, class_set, pool
FROM asked
JOIN judged USING (kind)
WHERE len(classes) > 0 AND pool <> 'unknown' AND (embedded OR $relevance <> '')
