-- alike_hashes: pairs of perceptual hashes that differ in at most $distance bits, 3 at the most.
-- reads    bands(hash, band: 0 to 3, value: the 16 bits of that band), one row a distinct hash and band
-- returns  one row a pair: (a, b), a < b
-- edges    two hashes that differ in 3 bits or fewer are equal in one of four bands; a value that more than $most hashes share is passed
--          over, since all pairs of them would be too many: such hashes are then found by their other bands, or not at all
WITH fit AS (
    SELECT band, value FROM bands GROUP BY ALL HAVING count(*) BETWEEN 2 AND $most
)
SELECT DISTINCT l.hash AS a, r.hash AS b
FROM bands AS l JOIN fit USING (band, value) JOIN bands AS r USING (band, value)
WHERE l.hash < r.hash AND bit_count(xor(l.hash, r.hash)) <= $distance
