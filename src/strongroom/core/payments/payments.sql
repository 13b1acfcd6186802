-- name: lock_payments
-- Who settles a payment holds it, so that the same news twice is settled once.
SELECT id, payee, order_id, user_id, method, provider, amount, expires_at, status, provider_ref,
    failure, redirect_url, captured, created_at, settled_at, queries, next_query_at
FROM payments.payments WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: read_payments
-- Providers are called with what a payment has said since it was added.
SELECT id, payee, order_id, user_id, method, provider, amount, expires_at, status, provider_ref,
    failure, redirect_url, captured, created_at, settled_at, queries, next_query_at
FROM payments.payments WHERE id = ANY($1::uuid[]);

-- name: update_payments
-- All payments that a group changed, in one statement; the poll's count is left alone.
UPDATE payments.payments p SET status = new.status::payments.status,
    provider_ref = new.provider_ref, failure = new.failure, redirect_url = new.redirect_url,
    captured = new.captured, settled_at = new.settled_at, next_query_at = new.next_query_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[])
    AS new (id, status, provider_ref, failure, redirect_url, captured, settled_at, next_query_at)
WHERE p.id = new.id;

-- name: lock_refunds
-- A refund is recorded as done by who holds it, once.
SELECT id, payment_id, amount, reason, status, provider_ref, created_at, done_at
FROM payments.refunds WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: read_refunds
-- Providers are called with what a refund has said since it was added.
SELECT id, payment_id, amount, reason, status, provider_ref, created_at, done_at
FROM payments.refunds WHERE id = ANY($1::uuid[]);

-- name: update_refunds
-- All refunds that a group changed, in one statement.
UPDATE payments.refunds r SET status = new.status::payments.refund_status,
    provider_ref = new.provider_ref, done_at = new.done_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
    AS new (id, status, provider_ref, done_at)
WHERE r.id = new.id;

-- name: payees
-- Who is to hear of a notice: payee and provider of a payment never change, so nothing is locked.
SELECT id, payee, provider FROM payments.payments WHERE id = ANY($1::uuid[]);

-- name: claim_queries
-- A payment that nobody has told of is asked for later and later; long after its end still now
-- and then, because money may come late. Counted before the call, so no crash asks it for ever.
UPDATE payments.payments p SET queries = p.queries + 1, next_query_at = CASE
    WHEN now() < p.expires_at + make_interval(secs => $2)
        THEN now() + make_interval(secs => least($3::float8 * 2 ^ least(p.queries + 1, 20), $4))
    WHEN now() < p.expires_at + make_interval(secs => $2 + $6)
        THEN now() + make_interval(secs => $5)
    END
WHERE p.id IN (
    SELECT id FROM payments.payments
    WHERE status = 'PENDING' AND next_query_at IS NOT NULL AND next_query_at <= now()
    ORDER BY next_query_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING p.id;
