-- name: stock_adds_up
-- O1: the free, held and sold pieces of a product are what was received and adjusted, none of them
-- negative, and there are no pieces of a product that is not there.
SELECT coalesce(p.id, a.owner_id) AS product_id, s.pieces AS expected, a.pieces AS found,
    a.accounts, a.least
FROM orders.products p
FULL JOIN (
    SELECT owner_id, count(*) AS accounts, sum(balance) AS pieces, min(balance) AS least
    FROM ledger.accounts
    WHERE unit = 'PIECE:' || owner_id AND purpose IN ('free', 'held', 'sold')
    GROUP BY owner_id
) a ON a.owner_id = p.id
LEFT JOIN (
    SELECT split_part(t.unit, ':', 2)::uuid AS product_id, sum(e.amount) AS pieces
    FROM ledger.transfers t
    JOIN ledger.entries e ON e.transfer_id = t.id
    JOIN ledger.accounts a ON a.id = e.account_id AND a.purpose = 'free'
    WHERE t.unit LIKE 'PIECE:%' AND (t.key LIKE 'SUPPLY:%' OR t.key LIKE 'ADJUST:%')
    GROUP BY 1
) s ON s.product_id = coalesce(p.id, a.owner_id)
WHERE (a.accounts = 3 AND a.least >= 0 AND a.pieces = coalesce(s.pieces, 0)
    AND p.id IS NOT NULL) IS NOT TRUE
ORDER BY 1 LIMIT 10;
