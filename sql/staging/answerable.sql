-- answerable: queries for whom an image of the gallery is relevant, at one level of relevance.
-- reads    candidates
-- returns  one row a query: (query_key)
SELECT query_key FROM candidates WHERE n_relevant > 0
