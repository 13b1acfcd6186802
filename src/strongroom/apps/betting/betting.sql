-- name: lock_rounds
-- Who accepts bets or closes holds the round, so bets are numbered in the order they commit.
SELECT id, name, kind, status, fee_bps, closes_at, winner, seed, seed_hash, bets, staked_a,
    staked_b, created_by, closed_at
FROM betting.rounds WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: read_rounds
-- Who holds the book sees a round whose status and winner cannot change meanwhile.
SELECT id, name, kind, status, fee_bps, closes_at, winner, seed, seed_hash, bets, staked_a,
    staked_b, created_by, closed_at
FROM betting.rounds WHERE id = ANY($1::uuid[]);

-- name: update_rounds
-- All rounds that a group changed, in one statement.
UPDATE betting.rounds r SET status = new.status::betting.status,
    winner = new.winner::betting.outcome, bets = new.bets, staked_a = new.staked_a,
    staked_b = new.staked_b, closed_at = new.closed_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[]) AS new (id, status, winner, bets, staked_a, staked_b, closed_at)
WHERE r.id = new.id;

-- name: lock_books
-- Who matches, refunds or undoes holds the book; it guards the amounts of the round's bets.
SELECT round_id, upto, ticks, matches, matched, refunded
FROM betting.books WHERE round_id = ANY($1::uuid[]) ORDER BY round_id FOR NO KEY UPDATE;

-- name: share_books
-- Settlers run side by side, but not while a round is being matched or voided.
SELECT round_id, upto, ticks, matches, matched, refunded
FROM betting.books WHERE round_id = ANY($1::uuid[]) ORDER BY round_id FOR SHARE;

-- name: update_books
-- All books that a group changed, in one statement.
UPDATE betting.books b SET upto = new.upto, ticks = new.ticks, matches = new.matches,
    matched = new.matched, refunded = new.refunded
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS new (round_id, upto, ticks, matches, matched, refunded)
WHERE b.round_id = new.round_id;

-- name: read_bets
-- The book's holder reads its bets; nobody else changes their amounts.
SELECT id, round_id, number, user_id, side, amount, matched, refunded, settled, payout,
    done_at_tick, created_at
FROM betting.bets WHERE id = ANY($1::uuid[]);

-- name: incoming_bets
-- Bets that have not met the earlier ones yet, in the order they were accepted.
SELECT id, round_id, number, user_id, side, amount, matched, refunded, settled, payout,
    done_at_tick, created_at
FROM betting.bets WHERE round_id = $1 AND number > $2 ORDER BY number LIMIT $3;

-- name: resting_bets
-- Bets that wait for a counterpart, the first to come the first to be met.
SELECT id, round_id, number, user_id, side, amount, matched, refunded, settled, payout,
    done_at_tick, created_at
FROM betting.bets
WHERE round_id = $1 AND side = $2::text::betting.side AND number <= $3 AND done_at_tick IS NULL
ORDER BY number LIMIT $4;

-- name: update_bets
-- What matching and refunds change of a bet; settlement's columns are left alone.
UPDATE betting.bets b SET matched = new.matched, refunded = new.refunded,
    done_at_tick = new.done_at_tick
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS new (id, matched, refunded, done_at_tick)
WHERE b.id = new.id;

-- name: settle_bets
-- What settlement changes of a bet, as sums: two chunks may meet in one bet.
UPDATE betting.bets b SET settled = b.settled + new.settled, payout = b.payout + new.payout
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS new (id, settled, payout)
WHERE b.id = new.id;

-- name: unpaid_users
-- Whose accounts a settlement will need, read before anything is locked.
SELECT DISTINCT b.user_id FROM betting.matches m
JOIN betting.bets b ON b.id IN (m.bet_a, m.bet_b)
WHERE m.round_id = $1 AND m.number BETWEEN $2 AND $3 AND m.winner IS NULL;

-- name: lock_matches
-- A match is paid by who holds it, and only while it is unpaid.
SELECT m.id, m.round_id, m.tick, m.number, m.bet_a, m.bet_b, m.amount, m.winner,
    a.user_id AS user_a, b.user_id AS user_b
FROM betting.matches m
JOIN betting.bets a ON a.id = m.bet_a
JOIN betting.bets b ON b.id = m.bet_b
WHERE m.round_id = $1 AND m.number BETWEEN $2 AND $3 AND m.winner IS NULL
ORDER BY m.number FOR NO KEY UPDATE OF m;

-- name: update_matches
-- Paid or undone, in one statement.
UPDATE betting.matches m SET winner = new.winner::betting.outcome
FROM unnest($1::uuid[], $2::text[]) AS new (id, winner)
WHERE m.id = new.id;

-- name: bets_by_id
-- Where a bet belongs never changes, so this may be read before anything is locked.
SELECT id, round_id, user_id FROM betting.bets WHERE id = ANY($1::uuid[]);

-- name: open_bets
-- What a refund would give back, read before anything is locked.
SELECT id, user_id FROM betting.bets
WHERE round_id = $1 AND done_at_tick IS NULL AND created_at < $2
ORDER BY side, number LIMIT $3;

-- name: unpaid_rounds
-- A round is done when nothing of it is left to pay.
SELECT r.id FROM betting.rounds r WHERE r.id = ANY($1::uuid[])
AND EXISTS (SELECT FROM betting.matches m WHERE m.round_id = r.id AND m.winner IS NULL);

-- name: drawn_rounds
-- A draw that was paid is final, so such a round can no longer be voided.
SELECT r.id FROM betting.rounds r WHERE r.id = ANY($1::uuid[])
AND EXISTS (SELECT FROM betting.matches m WHERE m.round_id = r.id AND m.winner IN ('A', 'B'));

-- name: rounds_to_close
-- Rounds whose time has come by the database's clock.
SELECT id FROM betting.rounds WHERE status = 'OPEN' AND closes_at <= clock_timestamp()
ORDER BY closes_at LIMIT 100;

-- name: rounds_with_old_bets
-- Rounds where a bet has waited longer than it should; the oldest of a side stands first.
SELECT r.id, now() - make_interval(secs => $1) AS before FROM betting.rounds r
WHERE r.status = 'OPEN' AND EXISTS (
    SELECT FROM unnest(ARRAY['A', 'B']::betting.side[]) AS s (side)
    CROSS JOIN LATERAL (
        SELECT b.created_at FROM betting.bets b
        WHERE b.round_id = r.id AND b.side = s.side AND b.done_at_tick IS NULL
        ORDER BY b.number LIMIT 1
    ) oldest
    WHERE oldest.created_at < now() - make_interval(secs => $1)
);

-- name: rounds_seen
-- Rounds as everybody sees them, newest first.
SELECT r.id, r.name, r.kind, r.status, r.closes_at, r.fee_bps, r.staked_a, r.staked_b,
    b.matched, r.winner, r.seed_hash, r.seed
FROM betting.rounds r JOIN betting.books b ON b.round_id = r.id
WHERE ($1::uuid IS NULL OR r.id = $1) AND ($2::uuid IS NULL OR r.id < $2)
ORDER BY r.id DESC LIMIT $3;

-- name: bets_seen
-- A user's own bets, newest first; another user's are not there.
SELECT id, round_id, side, amount, matched, refunded, payout, status, created_at
FROM betting.bets_seen
WHERE user_id = $1 AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4;

-- name: matches_of_bet
-- Whom a bet met and how it went; what was undone is not shown.
SELECT id, amount, winner FROM betting.matches
WHERE (bet_a = $1 OR bet_b = $1) AND winner IS DISTINCT FROM 'VOID' ORDER BY number;

-- name: draws
-- All draws of a round, for anyone to compute again.
SELECT id, winner FROM betting.matches
WHERE round_id = $1 AND winner IN ('A', 'B') ORDER BY number;

-- name: totals
-- How far everything is, for an operator's screen.
SELECT (SELECT count(*) FROM betting.bets) AS bets,
    (SELECT count(*) FROM betting.matches) AS matches,
    (SELECT count(*) FROM betting.matches WHERE winner IS NOT NULL) AS paid,
    (SELECT count(*) FROM betting.bets WHERE done_at_tick IS NULL) AS waiting;
