-- vanished: queries that find nothing relevant in a sample of the gallery, though the whole gallery has something.
-- reads    candidates, answerable(query_key): for whom an image of the whole gallery is relevant, at this level
-- returns  one row a query: (query_key)
SELECT query_key
FROM candidates
SEMI JOIN answerable USING (query_key)
WHERE n_relevant = 0
