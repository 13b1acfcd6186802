-- name: bets_hold_their_stake
-- B1: a bet has exactly its stake moved from its user's wallet to the same user's stake,
-- committed together; no stake is held for a bet that is not there.
SELECT b.id AS bet_id, b.user_id, p.transfer_id, b.amount AS expected, p.staked AS found
FROM betting.bets b
FULL JOIN (
    SELECT idempotent_key, transfer_id, owner_id, created_at, count(*) AS legs,
        sum(amount) FILTER (WHERE purpose = 'stake') AS staked,
        sum(amount) FILTER (WHERE purpose = 'wallet') AS taken
    FROM ledger.statement WHERE idempotent_key LIKE 'BET:%'
    GROUP BY idempotent_key, transfer_id, owner_id, created_at
) p ON p.idempotent_key = 'BET:' || b.id
-- A transaction's rows share its time, so equal times are what "together" leaves behind.
WHERE (p.owner_id = b.user_id AND p.created_at = b.created_at AND p.legs = 2
    AND p.staked = b.amount AND p.taken = -b.amount) IS NOT TRUE
ORDER BY b.created_at, b.id, p.transfer_id LIMIT 10;

-- name: bets_add_up
-- B2: amount = open + matched + refunded, none of them negative, and a bet is done when nothing
-- of it is open.
SELECT id AS bet_id, round_id, number, amount AS expected, matched + refunded AS found,
    matched, refunded, settled, done_at_tick
FROM betting.bets
WHERE matched < 0 OR refunded < 0 OR settled < 0 OR payout < 0 OR settled > matched
    OR matched + refunded > amount
    OR (matched + refunded = amount) <> (done_at_tick IS NOT NULL)
ORDER BY round_id, number LIMIT 10;

-- name: rounds_count_their_bets
-- B2: a round's bets are numbered 1, 2, 3 …, and it knows how many they are and what they staked.
SELECT coalesce(r.id, b.round_id) AS round_id,
    coalesce(b.bets, 0) AS expected_bets, r.bets AS found_bets, b.last AS last_number,
    coalesce(b.staked_a, 0) AS expected_a, r.staked_a AS found_a,
    coalesce(b.staked_b, 0) AS expected_b, r.staked_b AS found_b
FROM betting.rounds r
FULL JOIN (
    SELECT round_id, count(DISTINCT number) AS bets, max(number) AS last,
        coalesce(sum(amount) FILTER (WHERE side = 'A'), 0) AS staked_a,
        coalesce(sum(amount) FILTER (WHERE side = 'B'), 0) AS staked_b
    FROM betting.bets GROUP BY round_id
) b ON b.round_id = r.id
WHERE r.id IS NULL OR r.bets <> coalesce(b.bets, 0) OR b.last <> b.bets
    OR r.staked_a <> coalesce(b.staked_a, 0) OR r.staked_b <> coalesce(b.staked_b, 0)
ORDER BY 1 LIMIT 10;

-- name: matches_sum_to_matched
-- B3: what a bet says is matched is what its matches sum to, those undone left out.
SELECT coalesce(b.id, m.bet_id) AS bet_id, b.round_id, coalesce(m.matched, 0) AS expected,
    b.matched AS found
FROM betting.bets b
FULL JOIN (
    SELECT bet_id, sum(amount) AS matched
    FROM betting.matches CROSS JOIN LATERAL (VALUES (bet_a), (bet_b)) AS sides (bet_id)
    WHERE winner IS DISTINCT FROM 'VOID'
    GROUP BY bet_id
) m ON m.bet_id = b.id
WHERE b.id IS NULL OR b.matched <> coalesce(m.matched, 0)
ORDER BY b.round_id, b.number, 1 LIMIT 10;

-- name: books_count_their_matches
-- B3: a book's matches are numbered 1, 2, 3 …, and it knows how many they are, what they matched
-- and what was refunded.
SELECT coalesce(k.round_id, m.round_id) AS round_id,
    coalesce(m.matches, 0) AS expected_matches, k.matches AS found_matches,
    m.last AS last_number, coalesce(m.matched, 0) AS expected_matched, k.matched AS found_matched,
    coalesce(b.refunded, 0) AS expected_refunded, k.refunded AS found_refunded
FROM betting.books k
FULL JOIN (
    SELECT round_id, count(DISTINCT number) AS matches, max(number) AS last,
        max(tick) AS tick, count(DISTINCT tick) AS ticks,
        coalesce(sum(amount) FILTER (WHERE winner IS DISTINCT FROM 'VOID'), 0) AS matched
    FROM betting.matches GROUP BY round_id
) m ON m.round_id = k.round_id
LEFT JOIN (
    SELECT round_id, sum(refunded) AS refunded, max(done_at_tick) AS tick
    FROM betting.bets GROUP BY round_id
) b ON b.round_id = k.round_id
WHERE k.round_id IS NULL OR k.matches <> coalesce(m.matches, 0) OR m.last <> m.matches
    OR m.ticks <> m.matches OR k.ticks < greatest(m.tick, b.tick)
    OR k.matched <> coalesce(m.matched, 0) OR k.refunded <> coalesce(b.refunded, 0)
ORDER BY 1 LIMIT 10;

-- name: matches_join_two_sides
-- B4: a match joins a bet on A with one on B, of one round and of two users.
SELECT m.id AS match_id, m.round_id, m.number, a.id AS bet_a, b.id AS bet_b,
    a.side AS side_a, b.side AS side_b, a.user_id AS user_a, b.user_id AS user_b,
    a.round_id AS round_a, b.round_id AS round_b
FROM betting.matches m
LEFT JOIN betting.bets a ON a.id = m.bet_a
LEFT JOIN betting.bets b ON b.id = m.bet_b
WHERE (a.side = 'A' AND b.side = 'B' AND a.user_id <> b.user_id
    AND a.round_id = m.round_id AND b.round_id = m.round_id) IS NOT TRUE
ORDER BY m.round_id, m.number LIMIT 10;

-- name: stakes_cover_their_bets
-- B5: what a user's stake account holds is what the user's bets have neither back nor settled.
SELECT coalesce(b.user_id, a.owner_id) AS user_id, a.account_id,
    coalesce(b.owed, 0) AS expected, coalesce(a.held, 0) AS found
FROM (
    SELECT user_id, sum(amount - refunded - settled) AS owed FROM betting.bets GROUP BY user_id
) b
FULL JOIN (
    SELECT owner_id, min(id) AS account_id, sum(balance) AS held
    FROM ledger.accounts WHERE purpose = 'stake' GROUP BY owner_id
) a ON a.owner_id = b.user_id
WHERE coalesce(b.owed, 0) <> coalesce(a.held, 0)
ORDER BY 1 LIMIT 10;

-- name: finished_rounds_hold_nothing
-- B5: when a round is done, nothing of its bets is left at stake.
SELECT b.id AS bet_id, b.round_id, b.user_id, b.amount AS expected,
    b.refunded + b.settled AS found
FROM betting.bets b
JOIN betting.rounds r ON r.id = b.round_id
WHERE r.status IN ('SETTLED', 'VOIDED') AND b.refunded + b.settled <> b.amount
ORDER BY b.round_id, b.number LIMIT 10;

-- name: matches_are_paid_once
-- B6: a paid match has one transfer, from both stakes to the winner's wallet and the house's fees;
-- one that is not paid has none. What a reversal took back counts as not paid.
WITH due AS (
    SELECT m.id AS match_id,
        'SETTLE:' || m.id || ':' || CASE m.winner WHEN 'A' THEN a.user_id ELSE b.user_id END
            AS key,
        legs.owner_id, legs.purpose, legs.amount
    FROM betting.matches m
    JOIN betting.rounds r ON r.id = m.round_id
    JOIN betting.bets a ON a.id = m.bet_a
    JOIN betting.bets b ON b.id = m.bet_b
    CROSS JOIN LATERAL (VALUES
        (a.user_id, 'stake', -m.amount),
        (b.user_id, 'stake', -m.amount),
        (CASE m.winner WHEN 'A' THEN a.user_id ELSE b.user_id END, 'wallet',
            2 * m.amount - m.amount * r.fee_bps / 10000),
        ('00000000-0000-0000-0000-000000000000', 'fees', m.amount * r.fee_bps / 10000)
    ) AS legs (owner_id, purpose, amount)
    WHERE m.winner IN ('A', 'B') AND legs.amount <> 0
), paid AS (
    SELECT s.transfer_id, s.account_id, s.seq, s.idempotent_key AS key, s.owner_id, s.purpose,
        s.amount
    FROM ledger.statement s
    WHERE s.idempotent_key LIKE 'SETTLE:%'
        AND NOT EXISTS (SELECT FROM ledger.transfers r WHERE r.reverses = s.transfer_id)
)
SELECT coalesce(d.key, p.key) AS key, coalesce(d.owner_id, p.owner_id) AS owner_id,
    coalesce(d.purpose, p.purpose) AS purpose, p.transfer_id, p.account_id, p.seq,
    coalesce(d.amount, 0) AS expected, coalesce(p.amount, 0) AS found
FROM due d
FULL JOIN paid p ON p.key = d.key AND p.owner_id = d.owner_id AND p.purpose = d.purpose
WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
ORDER BY 1, 3, 6 LIMIT 10;

-- name: matches_go_to_the_winner
-- B6: what an operator's result says decides every match of the round; a void pays none.
SELECT m.id AS match_id, m.round_id, m.number, r.winner AS expected, m.winner AS found
FROM betting.matches m
JOIN betting.rounds r ON r.id = m.round_id
WHERE m.winner IS NOT NULL AND m.winner IS DISTINCT FROM r.winner
    AND NOT (r.kind = 'coinflip' AND r.winner IS NULL AND m.winner IN ('A', 'B'))
ORDER BY m.round_id, m.number LIMIT 10;

-- name: bets_get_what_they_won
-- B6: a bet counts as settled what its paid matches sum to, and as payout what those it won paid.
SELECT b.id AS bet_id, b.round_id, b.user_id,
    coalesce(m.settled, 0) AS expected_settled, b.settled AS found_settled,
    coalesce(m.payout, 0) AS expected, b.payout AS found
FROM betting.bets b
LEFT JOIN (
    SELECT sides.bet_id, sum(m.amount) AS settled,
        sum(2 * m.amount - m.amount * r.fee_bps / 10000)
            FILTER (WHERE m.winner::text = sides.side) AS payout
    FROM betting.matches m
    JOIN betting.rounds r ON r.id = m.round_id
    CROSS JOIN LATERAL (VALUES (m.bet_a, 'A'), (m.bet_b, 'B')) AS sides (bet_id, side)
    WHERE m.winner IN ('A', 'B')
    GROUP BY sides.bet_id
) m ON m.bet_id = b.id
WHERE b.settled <> coalesce(m.settled, 0) OR b.payout <> coalesce(m.payout, 0)
ORDER BY b.round_id, b.number LIMIT 10;

-- name: finished_rounds_pay_what_was_staked
-- B6: of a round that is done, payouts + fees + refunds = stakes.
SELECT r.id AS round_id, b.staked AS expected, b.payout + coalesce(m.fees, 0) + b.refunded AS found,
    b.payout, coalesce(m.fees, 0) AS fees, b.refunded
FROM betting.rounds r
JOIN (
    SELECT round_id, sum(amount) AS staked, sum(payout) AS payout, sum(refunded) AS refunded
    FROM betting.bets GROUP BY round_id
) b ON b.round_id = r.id
LEFT JOIN (
    SELECT m.round_id, sum(m.amount * r.fee_bps / 10000) AS fees
    FROM betting.matches m JOIN betting.rounds r ON r.id = m.round_id
    WHERE m.winner IN ('A', 'B') GROUP BY m.round_id
) m ON m.round_id = r.id
WHERE r.status IN ('SETTLED', 'VOIDED')
    AND b.payout + coalesce(m.fees, 0) + b.refunded <> b.staked
ORDER BY 1 LIMIT 10;

-- name: refunds_are_posted_once
-- B7: what a bet says was refunded went from its user's stake to the same user's wallet, once.
SELECT b.id AS bet_id, b.round_id, coalesce(b.user_id, p.owner_id) AS user_id, p.transfer_id,
    coalesce(b.refunded, 0) AS expected, coalesce(p.given, 0) AS found, -p.taken AS found_at_stake
FROM betting.bets b
FULL JOIN (
    SELECT split_part(s.idempotent_key, ':', 2) AS bet_id, s.owner_id,
        min(s.transfer_id::text) AS transfer_id,
        sum(s.amount) FILTER (WHERE s.purpose = 'stake') AS taken,
        sum(s.amount) FILTER (WHERE s.purpose = 'wallet') AS given
    FROM ledger.statement s
    WHERE (s.idempotent_key LIKE 'REFUND:%' OR s.idempotent_key LIKE 'VOID:%')
        AND NOT EXISTS (SELECT FROM ledger.transfers r WHERE r.reverses = s.transfer_id)
    -- Other rooms may refund too, but only bets are refunded from a stake.
    GROUP BY 1, 2 HAVING bool_or(s.purpose = 'stake')
) p ON p.bet_id = b.id::text AND p.owner_id = b.user_id
WHERE b.id IS NULL OR b.refunded <> coalesce(p.given, 0) OR b.refunded <> -coalesce(p.taken, 0)
ORDER BY b.round_id, b.number, 4 LIMIT 10;

-- name: nothing_is_refunded_and_paid
-- B7: what was given back of a bet and what its paid matches took are never more than the bet.
SELECT b.id AS bet_id, b.round_id, b.user_id, b.amount AS expected,
    coalesce(p.refunded, 0) + coalesce(m.paid, 0) AS found,
    coalesce(p.refunded, 0) AS refunded, coalesce(m.paid, 0) AS paid
FROM betting.bets b
LEFT JOIN (
    SELECT split_part(s.idempotent_key, ':', 2) AS bet_id, sum(s.amount) AS refunded
    FROM ledger.statement s
    WHERE (s.idempotent_key LIKE 'REFUND:%' OR s.idempotent_key LIKE 'VOID:%')
        AND s.purpose = 'wallet'
        AND NOT EXISTS (SELECT FROM ledger.transfers r WHERE r.reverses = s.transfer_id)
    GROUP BY 1
) p ON p.bet_id = b.id::text
LEFT JOIN (
    SELECT bet_id, sum(amount) AS paid
    FROM betting.matches CROSS JOIN LATERAL (VALUES (bet_a), (bet_b)) AS sides (bet_id)
    WHERE winner IN ('A', 'B')
    GROUP BY bet_id
) m ON m.bet_id = b.id
WHERE coalesce(p.refunded, 0) + coalesce(m.paid, 0) > b.amount
ORDER BY b.round_id, b.number LIMIT 10;

-- name: closed_rounds_take_no_bets
-- B8: no bet was accepted after its round closed. By the order of their events, which the round's
-- row gives them, and not by clocks.
SELECT b.id AS bet_id, b.round_id, b.number, r.bets AS expected, b.number AS found,
    closed.position AS closed_at_position, placed.position AS placed_at_position
FROM betting.bets b
JOIN betting.rounds r ON r.id = b.round_id
LEFT JOIN events.log placed ON placed.key = b.id AND placed.type = 'betting.BetPlaced'
LEFT JOIN events.log closed ON closed.key = b.round_id AND closed.type = 'betting.RoundClosed'
WHERE r.status <> 'OPEN' AND (b.number > r.bets OR placed.position > closed.position)
ORDER BY b.round_id, b.number LIMIT 10;

-- name: finished_rounds_match_no_more
-- B8: only bets that were accepted and came up are matched, and none after the round was done.
SELECT m.id AS match_id, m.round_id, m.number,
    least(k.upto, r.bets) AS expected, greatest(a.number, b.number) AS found,
    finished.position AS finished_at_position, made.position AS made_at_position
FROM betting.matches m
JOIN betting.rounds r ON r.id = m.round_id
JOIN betting.books k ON k.round_id = m.round_id
JOIN betting.bets a ON a.id = m.bet_a
JOIN betting.bets b ON b.id = m.bet_b
LEFT JOIN events.log made ON made.key = m.id AND made.type = 'betting.MatchMade'
LEFT JOIN events.log finished ON finished.key = m.round_id
    AND finished.type IN ('betting.RoundSettled', 'betting.RoundVoided')
WHERE greatest(a.number, b.number) > least(k.upto, r.bets) OR m.tick > k.ticks
    OR made.position > finished.position
    OR (r.status IN ('SETTLED', 'VOIDED') AND m.winner IS NULL)
ORDER BY m.round_id, m.number LIMIT 10;

-- name: nothing_is_paid_while_paused
-- B9: no payout committed that the pause's first snapshot does not see and its last one does.
SELECT l.key, l.seq, l.id AS event_id, l.type, l.created_at, p.began_at AS paused_at,
    p.ended_at AS resumed_at
FROM audit.pauses p
JOIN events.log l ON l.xid >= pg_snapshot_xmin(p.began_snapshot)
    AND l.xid < coalesce(pg_snapshot_xmax(p.ended_snapshot), '18446744073709551615'::xid8)
WHERE l.type IN ('betting.MatchSettled', 'wallets.FundsWithdrawn')
    AND NOT pg_visible_in_snapshot(l.xid, p.began_snapshot)
    AND (p.ended_snapshot IS NULL OR pg_visible_in_snapshot(l.xid, p.ended_snapshot))
ORDER BY l.xid, l.position LIMIT 10;

-- name: first_come_is_first_served
-- B10: a match takes the earliest bet it may: none of another user's that came before the one it
-- took was still open afterwards. Rounds called off keep no trace of what was open when.
WITH waiting AS (
    SELECT b.id, b.number, b.user_id,
        audit.two_latest(coalesce(b.done_at_tick, 9223372036854775807), b.user_id) OVER (
            PARTITION BY b.round_id, b.side ORDER BY b.number
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS earlier
    FROM betting.bets b
    JOIN betting.rounds r ON r.id = b.round_id
    WHERE r.winner IS DISTINCT FROM 'VOID'
)
SELECT m.id AS match_id, m.round_id, m.number, m.tick, least(a.number, b.number) AS took,
    greatest(a.number, b.number) AS taker,
    CASE WHEN a.number < b.number THEN a.earlier ELSE b.earlier END AS open_before
FROM betting.matches m
JOIN waiting a ON a.id = m.bet_a
JOIN waiting b ON b.id = m.bet_b
WHERE CASE WHEN a.number < b.number THEN audit.latest_but(a.earlier, b.user_id)
    ELSE audit.latest_but(b.earlier, a.user_id) END > m.tick
ORDER BY m.round_id, m.number LIMIT 10;

-- name: bets_are_matched_in_order
-- B10: bets take their matches in the order they were accepted.
SELECT match_id, round_id, number, tick, taker_before AS expected, taker AS found
FROM (
    SELECT m.id AS match_id, m.round_id, m.number, m.tick, greatest(a.number, b.number) AS taker,
        lag(greatest(a.number, b.number)) OVER matches AS taker_before,
        lag(m.tick) OVER matches AS tick_before
    FROM betting.matches m
    JOIN betting.bets a ON a.id = m.bet_a
    JOIN betting.bets b ON b.id = m.bet_b
    WINDOW matches AS (PARTITION BY m.round_id ORDER BY m.number)
) m
WHERE taker < taker_before OR tick <= tick_before
ORDER BY round_id, number LIMIT 10;

-- name: nobody_is_passed_over
-- B10: before a bet takes its first match, all earlier ones have met: no two users' bets on
-- opposite sides were both still open then.
WITH takers AS (
    SELECT m.round_id, greatest(a.number, b.number) AS number, min(m.tick) AS tick
    FROM betting.matches m
    JOIN betting.bets a ON a.id = m.bet_a
    JOIN betting.bets b ON b.id = m.bet_b
    GROUP BY 1, 2
), bets AS (
    SELECT b.id, b.round_id, b.number, b.side, b.user_id,
        coalesce(b.done_at_tick, 9223372036854775807) AS done, t.tick
    FROM betting.bets b
    JOIN betting.rounds r ON r.id = b.round_id
    LEFT JOIN takers t ON t.round_id = b.round_id AND t.number = b.number
    WHERE r.winner IS DISTINCT FROM 'VOID'
), met AS (
    SELECT id, round_id, number, user_id, done,
        -- Backwards, because a frame that starts later with each row is summed anew for each.
        min(tick) OVER (
            PARTITION BY round_id ORDER BY number DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS next_tick,
        CASE side
            WHEN 'A' THEN audit.two_latest(done, user_id) FILTER (WHERE side = 'B') OVER earlier
            ELSE audit.two_latest(done, user_id) FILTER (WHERE side = 'A') OVER earlier
        END AS others
    FROM bets
    WINDOW earlier AS (
        PARTITION BY round_id ORDER BY number
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT id AS bet_id, round_id, number, next_tick AS expected_before_tick, others AS open_before
FROM met
WHERE done >= next_tick AND audit.latest_but(others, user_id) >= next_tick
ORDER BY round_id, number LIMIT 10;

-- name: no_pair_is_stranded
-- B11: when a round's bets have all come up, no two users' bets are left open on opposite sides.
WITH crowds AS (
    SELECT b.round_id, b.side, count(DISTINCT b.user_id) AS users, min(b.number) AS first,
        (array_agg(b.user_id ORDER BY b.number))[1] AS first_user
    FROM betting.bets b
    JOIN betting.rounds r ON r.id = b.round_id
    JOIN betting.books k ON k.round_id = b.round_id
    WHERE b.done_at_tick IS NULL AND r.status = 'OPEN' AND k.upto = r.bets
    GROUP BY b.round_id, b.side
)
SELECT a.round_id, a.first AS number_a, b.first AS number_b, a.users AS users_a, b.users AS users_b
FROM crowds a
JOIN crowds b ON b.round_id = a.round_id AND a.side = 'A' AND b.side = 'B'
WHERE a.users > 1 OR b.users > 1 OR a.first_user <> b.first_user
ORDER BY a.round_id LIMIT 10;

-- name: bets_have_their_events
-- E1: a bet was announced once, in the transaction that accepted it and for its amount, and only
-- accepted bets were; so was what it was refunded.
SELECT coalesce(b.id, l.key) AS bet_id, b.round_id, b.amount AS expected, l.amount AS found,
    b.refunded AS expected_refunded, l.refunded AS found_refunded, l.placed AS announced
FROM betting.bets b
FULL JOIN (
    SELECT key, count(*) FILTER (WHERE type = 'betting.BetPlaced') AS placed,
        min(seq) FILTER (WHERE type = 'betting.BetPlaced') AS seq,
        min(created_at) FILTER (WHERE type = 'betting.BetPlaced') AS placed_at,
        sum((payload ->> 'amount')::bigint) FILTER (WHERE type = 'betting.BetPlaced') AS amount,
        sum((payload ->> 'amount')::bigint) FILTER (WHERE type = 'betting.BetRefunded') AS refunded
    FROM events.log WHERE type IN ('betting.BetPlaced', 'betting.BetRefunded')
    GROUP BY key
) l ON l.key = b.id
WHERE (l.placed = 1 AND l.seq = 1 AND l.placed_at = b.created_at AND l.amount = b.amount
    AND coalesce(l.refunded, 0) = b.refunded) IS NOT TRUE
ORDER BY b.round_id, b.number, 1 LIMIT 10;

-- name: matches_have_their_events
-- E1: a match was announced once, and so was that it was paid or undone; only real ones were.
SELECT coalesce(m.id, l.key) AS match_id, m.round_id, m.number, m.winner, l.made, l.settled,
    l.undone
FROM betting.matches m
FULL JOIN (
    SELECT key, count(*) FILTER (WHERE type = 'betting.MatchMade') AS made,
        count(*) FILTER (WHERE type = 'betting.MatchSettled') AS settled,
        count(*) FILTER (WHERE type = 'betting.MatchUndone') AS undone
    FROM events.log
    WHERE type IN ('betting.MatchMade', 'betting.MatchSettled', 'betting.MatchUndone')
    GROUP BY key
) l ON l.key = m.id
WHERE (l.made = 1 AND l.settled = CASE WHEN m.winner IN ('A', 'B') THEN 1 ELSE 0 END
    AND l.undone = CASE WHEN m.winner = 'VOID' THEN 1 ELSE 0 END) IS NOT TRUE
ORDER BY m.round_id, m.number, 1 LIMIT 10;

-- name: rounds_have_their_events
-- E1: a round's steps were announced, each once, and only those it took.
SELECT coalesce(r.id, l.key) AS round_id, r.status, l.opened, l.closed, l.settled, l.voided
FROM betting.rounds r
FULL JOIN (
    SELECT key, count(*) FILTER (WHERE type = 'betting.RoundOpened') AS opened,
        count(*) FILTER (WHERE type = 'betting.RoundClosed') AS closed,
        count(*) FILTER (WHERE type = 'betting.RoundSettled') AS settled,
        count(*) FILTER (WHERE type = 'betting.RoundVoided') AS voided
    FROM events.log
    WHERE type IN ('betting.RoundOpened', 'betting.RoundClosed', 'betting.RoundSettled',
        'betting.RoundVoided')
    GROUP BY key
) l ON l.key = r.id
WHERE (l.opened = 1 AND l.closed = CASE r.status WHEN 'OPEN' THEN 0 ELSE 1 END
    AND l.settled = CASE r.status WHEN 'SETTLED' THEN 1 ELSE 0 END
    AND l.voided = CASE r.status WHEN 'VOIDED' THEN 1 ELSE 0 END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: bets_have_one_answer
-- I1: a bet answers one request, as far back as answers are kept: that of the principal whose
-- stake it holds (I3), which names the bet and the balance that the stake left.
WITH reach AS (
    -- The oldest answers are forgotten first, and none that is younger than a day; a day may have
    -- 23 hours.
    SELECT least(min(created_at), now() - interval '22 hours') AS since FROM commands.answers
), staked AS (
    SELECT idempotent_key, created_by, balance_after
    FROM ledger.statement WHERE idempotent_key LIKE 'BET:%' AND purpose = 'wallet'
), told AS (
    SELECT subject, count(*) AS answers, min(principal) AS first, max(principal) AS last,
        min(encode(body, 'escape')) AS body
    FROM commands.answers WHERE command = 'PlaceBet' AND refused IS NULL
    GROUP BY subject
)
SELECT b.id AS bet_id, b.round_id, coalesce(a.answers, 0) AS answers, s.created_by AS expected,
    a.last AS found, s.balance_after AS expected_balance, left(a.body, 200) AS found_body
FROM betting.bets b
LEFT JOIN staked s ON s.idempotent_key = 'BET:' || b.id
LEFT JOIN told a ON a.subject = b.id
WHERE CASE WHEN a.answers IS NULL THEN b.created_at > (SELECT since FROM reach)
    ELSE (a.answers = 1 AND a.first = s.created_by
        AND CASE WHEN pg_input_is_valid(a.body, 'jsonb') THEN a.body::jsonb
            @> jsonb_build_object('betId', b.id, 'balance', s.balance_after) END) IS NOT TRUE
    END
ORDER BY b.round_id, b.number LIMIT 10;

-- name: seeds_are_those_published
-- B12: the seed of a coinflip is the one whose hash was shown before anybody could bet.
SELECT id AS round_id, name, encode(seed_hash, 'hex') AS expected,
    encode(sha256(seed), 'hex') AS found
FROM betting.rounds
WHERE seed_hash IS DISTINCT FROM sha256(seed)
ORDER BY id LIMIT 10;

-- name: draws_follow_from_their_seed
-- B12: B has won a drawn match when the last bit of HMAC-SHA256(seed, match) is 1, else A.
WITH seeds AS MATERIALIZED (
    -- RFC 2104: the key is mixed with 36… inside and 5c… outside; once a round, not once a match.
    SELECT id, betting.padded_key(seed, x'3636363636363636'::bigint) AS inside,
        betting.padded_key(seed, x'5c5c5c5c5c5c5c5c'::bigint) AS outside
    FROM betting.rounds WHERE kind = 'coinflip'
), draws AS (
    SELECT m.id, m.round_id, m.number, m.winner, CASE get_byte(
            sha256(s.outside || sha256(s.inside || convert_to(m.id::text, 'UTF8'))), 31
        ) & 1 WHEN 1 THEN 'B' ELSE 'A' END AS drawn
    FROM betting.matches m
    JOIN seeds s ON s.id = m.round_id
    WHERE m.winner IN ('A', 'B')
)
SELECT id AS match_id, round_id, number, drawn AS expected, winner AS found
FROM draws WHERE winner::text <> drawn
ORDER BY round_id, number LIMIT 10;

-- name: rounds_have_one_answer
-- I1: a round was asked for once, as far back as answers are kept, and its answer names it.
SELECT r.id AS round_id, r.name, 1 AS expected, coalesce(a.answers, 0) AS found,
    r.created_by AS expected_by, a.principal AS found_by
FROM betting.rounds r
LEFT JOIN (
    SELECT subject, count(*) AS answers, min(principal) AS principal,
        bool_and(strpos(encode(body, 'escape'), subject::text) > 0) AS named
    FROM commands.answers WHERE command = 'CreateRound' AND refused IS NULL
    GROUP BY subject
) a ON a.subject = r.id
WHERE CASE WHEN a.answers IS NULL THEN r.created_at > (
        SELECT least(min(created_at), now() - interval '22 hours') FROM commands.answers
    ) ELSE NOT (a.answers = 1 AND a.named AND a.principal = r.created_by) END
ORDER BY r.id LIMIT 10;
