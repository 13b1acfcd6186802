-- name: day_by_purpose
-- Counted back from what the accounts hold now, in one snapshot: closing is that less what came
-- later, opening is closing less the day, so that nothing can stand between the three.
WITH moved AS (
    SELECT a.unit, CASE WHEN a.owner_id = $4 AND a.purpose <> 'world' THEN 'house:' || a.purpose
            ELSE a.purpose END AS purpose,
        e.type::text AS type, e.created_at < $2 AS of_the_day, sum(e.amount) AS amount,
        coalesce(sum(e.amount) FILTER (WHERE e.amount > 0), 0) AS gained, count(*) AS entries
    FROM (
        SELECT e.account_id, e.amount, e.type, t.created_at
        FROM ledger.transfers t JOIN ledger.entries e ON e.transfer_id = t.id
        WHERE t.created_at >= $1 AND (t.unit = $3 OR $3 IS NULL)
    ) e
    JOIN ledger.accounts a ON a.id = e.account_id
    GROUP BY 1, 2, 3, 4
), held AS (
    SELECT unit, CASE WHEN owner_id = $4 AND purpose <> 'world' THEN 'house:' || purpose
        ELSE purpose END AS purpose, sum(balance) AS balance
    FROM ledger.accounts WHERE unit = $3 OR $3 IS NULL
    GROUP BY 1, 2
), stood AS (
    SELECT h.unit, h.purpose,
        h.balance - coalesce(sum(m.amount), 0) AS opening,
        h.balance - coalesce(sum(m.amount) FILTER (WHERE NOT m.of_the_day), 0) AS closing
    FROM held h LEFT JOIN moved m USING (unit, purpose)
    GROUP BY h.unit, h.purpose, h.balance
)
SELECT s.unit, s.purpose, s.opening, s.closing, m.type, m.gained,
    m.gained - m.amount AS given, m.entries, now() AS as_of
FROM stood s
LEFT JOIN moved m ON m.unit = s.unit AND m.purpose = s.purpose AND m.of_the_day
ORDER BY s.unit, s.purpose, m.type;

-- name: day_of_account
-- The same of one account: its entries until the day are skipped by their numbers.
WITH moved AS (
    SELECT e.type::text AS type, t.created_at < $2 AS of_the_day, sum(e.amount) AS amount,
        coalesce(sum(e.amount) FILTER (WHERE e.amount > 0), 0) AS gained, count(*) AS entries
    FROM ledger.entries e
    JOIN ledger.transfers t ON t.id = e.transfer_id
    WHERE e.account_id = $3 AND t.created_at >= $1
        AND e.seq > (SELECT ledger.seq_near($3, $1::timestamptz - interval '2 minutes'))
    GROUP BY 1, 2
), stood AS (
    SELECT a.unit, a.purpose, a.balance - coalesce(sum(m.amount), 0) AS opening,
        a.balance - coalesce(sum(m.amount) FILTER (WHERE NOT m.of_the_day), 0) AS closing
    FROM ledger.accounts a LEFT JOIN moved m ON true
    WHERE a.id = $3
    GROUP BY a.id
)
SELECT s.unit, s.purpose, s.opening, s.closing, m.type, m.gained,
    m.gained - m.amount AS given, m.entries, now() AS as_of
FROM stood s
LEFT JOIN moved m ON m.of_the_day
ORDER BY m.type;
