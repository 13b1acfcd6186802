-- name: create_charges
-- A charge is made once, however often it is asked for: what is there already stays as it is.
INSERT INTO payments.sandbox_charges
    (payment_id, amount, plan, state, captured, step, due_at, expires_at)
SELECT payment_id, amount, plan, state::payments.charge_state, captured, step, due_at, expires_at
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::integer[],
    $7::timestamptz[], $8::timestamptz[])
    AS new (payment_id, amount, plan, state, captured, step, due_at, expires_at)
ORDER BY payment_id
ON CONFLICT DO NOTHING RETURNING payment_id;

-- name: read_charges
-- What the bank believes just now: it answers queries, and charges that are asked for twice.
SELECT payment_id, amount, plan, state, captured, step, due_at, expires_at, refund_id
FROM payments.sandbox_charges WHERE payment_id = ANY($1::uuid[]);

-- name: charges_due
-- The bank keeps its appointments after a restart too.
SELECT payment_id FROM payments.sandbox_charges
WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at LIMIT $2;

-- name: advance_charges
-- A step is taken once, after its callbacks went out: who dies between sends them twice.
UPDATE payments.sandbox_charges c SET state = new.state::payments.charge_state,
    captured = new.captured, step = new.step, due_at = new.due_at
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::bigint[], $5::integer[],
    $6::timestamptz[]) AS new (payment_id, before, state, captured, step, due_at)
WHERE c.payment_id = new.payment_id AND c.step = new.before;

-- name: decide_charge
-- The buyer decides once, and only what still waits for a decision.
UPDATE payments.sandbox_charges SET plan = $2, step = 0, due_at = $3
WHERE payment_id = $1 AND state = 'waiting' AND due_at IS NULL RETURNING payment_id;

-- name: refund_charges
-- Money goes back once, and never more than was taken.
UPDATE payments.sandbox_charges c SET refund_id = new.refund_id, refunded = new.amount
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS new (payment_id, refund_id, amount)
WHERE c.payment_id = new.payment_id AND c.refund_id IS NULL AND c.state = 'paid'
    AND new.amount <= c.captured;
