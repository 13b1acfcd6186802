"""What a hand on the tables may do to them, and the invariant that must notice."""

from __future__ import annotations

SPOILED: dict[str, tuple[str, str]] = {
    "a changed amount": (
        "transfers_sum_to_zero",
        "UPDATE ledger.entries SET amount = amount + 1 WHERE (account_id, seq) ="
        " (SELECT account_id, seq FROM ledger.entries WHERE type = 'PAYOUT' LIMIT 1)",
    ),
    "a one-sided transfer": (
        "transfers_have_their_entries",
        "SELECT post('DEPOSIT:x', ARRAY[(SELECT id FROM ledger.accounts"
        " WHERE purpose = 'wallet' LIMIT 1)], ARRAY[100])",
    ),
    "an entry of no transfer": (
        "transfers_have_their_entries",
        "DELETE FROM ledger.transfers WHERE key LIKE 'WITHDRAWAL:%'",
    ),
    "money from nowhere": (
        "units_sum_to_zero",
        "UPDATE ledger.accounts SET balance = balance + 1000 WHERE purpose = 'fees'",
    ),
    "an edited balance": (
        "accounts_equal_their_entries",
        "UPDATE ledger.accounts SET balance = balance + CASE purpose WHEN 'fees' THEN 7 ELSE -7 END"
        " WHERE purpose IN ('fees', 'world')",
    ),
    "a deleted last entry": (
        "accounts_equal_their_entries",
        "DELETE FROM ledger.entries WHERE (account_id, seq) ="
        " (SELECT id, seq FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1)",
    ),
    "a deleted entry": (
        "entries_chain",
        "DELETE FROM ledger.entries WHERE (account_id, seq) ="
        " (SELECT id, 2 FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1)",
    ),
    "a gap": (
        "entries_chain",
        "UPDATE ledger.entries SET seq = seq + 1 WHERE (account_id, seq) ="
        " (SELECT id, seq FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1)",
    ),
    "a forked account": (
        "entries_chain",
        "ALTER TABLE ledger.entries DROP CONSTRAINT entries_pkey;"
        "INSERT INTO ledger.entries SELECT * FROM ledger.entries WHERE (account_id, seq) ="
        " (SELECT id, seq FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1)",
    ),
    "an overdrawn wallet": (
        "entries_stay_above_the_floor",
        "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor;"
        "SELECT post('TRANSFER:x', ARRAY[w.id, f.id], ARRAY[-w.balance - 1, w.balance + 1])"
        " FROM ledger.accounts f,"
        " (SELECT id, balance FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1) w"
        " WHERE f.purpose = 'fees'",
    ),
    "a wallet of another unit": (
        "entries_share_their_unit",
        "UPDATE ledger.accounts SET unit = 'USD' WHERE id ="
        " (SELECT id FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1)",
    ),
    "a reversal of something else": (
        "reversals_negate",
        "UPDATE ledger.transfers SET reverses ="
        " (SELECT id FROM ledger.transfers WHERE key LIKE 'BET:%' LIMIT 1)"
        " WHERE key LIKE 'REVERSAL:%'",
    ),
    "a second reversal": (
        "transfers_are_reversed_once",
        "DROP INDEX ledger.transfers_reverses;"
        "INSERT INTO ledger.transfers SELECT gen_random_uuid(), key || ':x', unit, reference,"
        " reverses, created_by FROM ledger.transfers WHERE key LIKE 'REVERSAL:%'",
    ),
    "a key used twice": (
        "transfer_keys_are_unique",
        "DROP INDEX ledger.transfers_key;"
        "INSERT INTO ledger.transfers SELECT gen_random_uuid(), key, unit, reference, NULL,"
        " created_by FROM ledger.transfers LIMIT 1",
    ),
    "a dropped unique index": ("unique_indexes_stand", "DROP INDEX ledger.transfers_key"),
    "an index that is unique no more": (
        "unique_indexes_stand",
        "DROP INDEX ledger.transfers_key; CREATE INDEX transfers_key ON ledger.transfers (key)",
    ),
    "an index that is not valid": (
        "unique_indexes_stand",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ledger.entries_pkey'::regclass",
    ),
    "a granted UPDATE": (
        "the_past_cannot_be_changed",
        "GRANT UPDATE (amount) ON ledger.entries TO strongroom_app",
    ),
    "a granted TRUNCATE": (
        "the_past_cannot_be_changed",
        "GRANT TRUNCATE ON events.log TO PUBLIC",
    ),
    "a table given away": (
        "the_past_cannot_be_changed",
        "ALTER TABLE ledger.transfers OWNER TO strongroom_app",
    ),
    "a disabled trigger": (
        "append_only_triggers_stand",
        "ALTER TABLE ledger.transfers DISABLE TRIGGER not_emptied",
    ),
    "a trigger that replicas skip": (
        "append_only_triggers_stand",
        "ALTER TABLE events.log ENABLE TRIGGER not_emptied",
    ),
    "a trigger that refuses nothing": (
        "append_only_triggers_stand",
        "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RETURN NEW; END $$",
    ),
    "a trigger that takes its refusal back": (
        "append_only_triggers_stand",
        "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no';"
        " EXCEPTION WHEN OTHERS THEN RETURN coalesce(NEW, OLD); END $$",
    ),
    "a switch turned unseen": (
        "switches_stand_as_noted",
        "ALTER TABLE audit.switches DISABLE TRIGGER noted_change;"
        "UPDATE audit.switches SET paused = NOT paused WHERE name = 'payouts';"
        "ALTER TABLE audit.switches ENABLE ALWAYS TRIGGER noted_change",
    ),
    "a queue paused unseen": (
        "switches_stand_as_noted",
        "ALTER TABLE audit.switches DISABLE TRIGGER noted;"
        "INSERT INTO audit.switches VALUES ('queue:betting_match', true, now(), 'ann', 'x');"
        "ALTER TABLE audit.switches ENABLE ALWAYS TRIGGER noted",
    ),
    "a limit set unseen": (
        "switches_stand_as_noted",
        "ALTER TABLE audit.limits DISABLE TRIGGER noted;"
        "INSERT INTO audit.limits VALUES ('rate.global', '\"9/minute\"', now(), 'ann', 'x');"
        "ALTER TABLE audit.limits ENABLE ALWAYS TRIGGER noted",
    ),
    "an act that is gone": (
        "switches_stand_as_noted",
        "ALTER TABLE audit.actions DISABLE TRIGGER append_only;"
        "DELETE FROM audit.actions WHERE action = 'payouts.resume';"
        "ALTER TABLE audit.actions ENABLE ALWAYS TRIGGER append_only",
    ),
    "a verdict turned round": (
        "switches_stand_as_noted",
        "UPDATE audit.reconciliations SET clean = NOT clean",
    ),
    "a verdict that is gone": (
        "switches_stand_as_noted",
        "DELETE FROM audit.reconciliations",
    ),
    "a changed entry type": (
        "entries_fit_their_keys",
        "UPDATE ledger.entries SET type = 'PAYOUT' WHERE (account_id, seq) ="
        " (SELECT account_id, seq FROM ledger.entries WHERE type = 'DEPOSIT' LIMIT 1)",
    ),
    "money under a name that nobody knows": (
        "entries_fit_their_keys",
        "SELECT post('FREE:1', ARRAY[w.id, a.id], ARRAY[-500, 500]) FROM ledger.accounts w,"
        " (SELECT id FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1) a"
        " WHERE w.purpose = 'world'",
    ),
    "a stake that goes to a wallet as a transfer": (
        "entries_fit_their_keys",
        "SELECT post('TRANSFER:x', ARRAY[s.id, w.id], ARRAY[-1, 1])"
        " FROM ledger.accounts s JOIN ledger.accounts w USING (owner_id)"
        " WHERE s.purpose = 'stake' AND s.balance > 0 AND w.purpose = 'wallet' LIMIT 1",
    ),
    "seats among the money": (
        "entries_fit_their_keys",
        "UPDATE ledger.transfers SET key = 'HOLD:x' WHERE id ="
        " (SELECT id FROM ledger.transfers WHERE key LIKE 'TRANSFER:%' LIMIT 1)",
    ),
    "an answer about nothing": (
        "answers_have_their_effect",
        "UPDATE commands.answers SET subject = gen_random_uuid() WHERE command = 'Transfer'",
    ),
    "two answers for one transfer": (
        "effects_have_one_answer",
        "INSERT INTO commands.answers SELECT gen_random_uuid(), principal, command, 'other',"
        " fingerprint, refused, body, subject FROM commands.answers WHERE command = 'Transfer'",
    ),
    "a forgotten answer that is too young": (
        "effects_have_one_answer",
        "DELETE FROM commands.answers WHERE id IN ("
        " SELECT id FROM commands.answers WHERE command = 'Deposit' ORDER BY created_at LIMIT 1)",
    ),
    "all answers gone": ("effects_have_one_answer", "DELETE FROM commands.answers"),
    "a batch that tells of other transfers": (
        "effects_have_one_answer",
        "UPDATE commands.answers SET body = convert_to(replace(convert_from(body, 'UTF8'),"
        " '\"transferId\":\"', '\"transferId\":\"0'), 'UTF8') WHERE command = 'TransferBatch'",
    ),
    "an answer with another balance": (
        "answers_say_what_was_done",
        "UPDATE commands.answers SET body = convert_to(replace(convert_from(body, 'UTF8'),"
        " 'oBalance\":', 'oBalance\":1'), 'UTF8') WHERE command = 'Transfer'",
    ),
    "an answer that is none": (
        "answers_say_what_was_done",
        "UPDATE commands.answers SET body = '\\xff00' WHERE command = 'Withdraw'",
    ),
    "an answer in a stranger's name": (
        "answers_belong_to_who_asked",
        "UPDATE commands.answers SET principal = 'user:x' WHERE command = 'Transfer'",
    ),
    "a bet told to a stranger": (
        "bets_have_one_answer",
        "UPDATE commands.answers SET principal = 'user:x' WHERE id ="
        " (SELECT id FROM commands.answers WHERE command = 'PlaceBet' LIMIT 1)",
    ),
    "a deleted answer of a bet": (
        "bets_have_one_answer",
        "DELETE FROM commands.answers WHERE id ="
        " (SELECT id FROM commands.answers WHERE command = 'PlaceBet' LIMIT 1)",
    ),
    "an edited answer of a bet": (
        "bets_have_one_answer",
        "UPDATE commands.answers SET body = overlay(body PLACING '0' FROM 12) WHERE command ="
        " 'PlaceBet' AND substr(body, 12, 1) <> '0'",
    ),
    "an answer that is about another bet": (
        "bets_have_one_answer",
        "UPDATE commands.answers SET subject = (SELECT id FROM betting.bets LIMIT 1)"
        " WHERE command = 'PlaceBet'",
    ),
    "a round that nobody asked for": (
        "rounds_have_one_answer",
        "DELETE FROM commands.answers WHERE id ="
        " (SELECT id FROM commands.answers WHERE command = 'CreateRound' LIMIT 1)",
    ),
    "a transfer of no command": (
        "transfers_are_announced",
        "SELECT post('FREE:1', ARRAY[w.id, a.id], ARRAY[-500, 500]) FROM ledger.accounts w,"
        " (SELECT id FROM ledger.accounts WHERE purpose = 'wallet' LIMIT 1) a"
        " WHERE w.purpose = 'world'",
    ),
    "a deposit that nobody announced": (
        "moves_have_their_events",
        "DELETE FROM events.log WHERE id ="
        " (SELECT id FROM events.log WHERE type = 'wallets.FundsDeposited' LIMIT 1)",
    ),
    "a transfer smuggled into a batch": (
        "moves_have_their_events",
        "SELECT post('TRANSFER:x', ARRAY[w.id, a.id], ARRAY[-5, 5])"
        " FROM ledger.accounts w, ledger.accounts a WHERE w.purpose = 'wallet'"
        " AND a.purpose = 'wallet' AND w.id <> a.id AND w.balance > 5 LIMIT 1;"
        "UPDATE ledger.transfers SET created_at = (SELECT created_at FROM events.log"
        " WHERE type = 'wallets.BatchPosted') WHERE key = 'TRANSFER:x'",
    ),
    "a deposit announced for another user": (
        "moves_have_their_events",
        "UPDATE events.log SET payload = payload || jsonb_build_object('userId', gen_random_uuid())"
        " WHERE type = 'wallets.FundsDeposited'",
    ),
    "an event number left out": (
        "events_are_numbered",
        "UPDATE events.log SET seq = 77 WHERE seq = 1 AND type = 'betting.RoundOpened'",
    ),
    "a queue that stopped listening": (
        "queues_are_bound",
        "DELETE FROM pgmq.topic_bindings WHERE pattern = 'betting.RoundMatched'",
    ),
    "a message that vanished": (
        "queues_balance",
        "UPDATE events.consumed SET messages = messages - 1 WHERE queue = 'betting_match'",
    ),
    "a dead letter that nobody wrote": (
        "dead_letters_were_written",
        "INSERT INTO events.dead_letters (queue, event, error, attempts) SELECT 'betting_match',"
        " jsonb_build_object('id', gen_random_uuid(), 'key', key, 'seq', seq), 'x', 1"
        " FROM events.log LIMIT 1",
    ),
    "a bet without a stake": (
        "bets_hold_their_stake",
        "UPDATE ledger.transfers SET key = 'X' WHERE id ="
        " (SELECT id FROM ledger.transfers WHERE key LIKE 'BET:%' LIMIT 1)",
    ),
    "a stake without a bet": (
        "bets_hold_their_stake",
        "DELETE FROM betting.bets WHERE number = 1",
    ),
    "a bet on another's money": (
        "bets_hold_their_stake",
        "UPDATE betting.bets SET user_id = gen_random_uuid() WHERE number = 1",
    ),
    "a bet that came before its stake": (
        "bets_hold_their_stake",
        "UPDATE ledger.transfers SET created_at = created_at + interval '1 second'"
        " WHERE key LIKE 'BET:%'",
    ),
    "more given back than was staked": (
        "bets_add_up",
        "ALTER TABLE betting.bets DROP CONSTRAINT bets_check1, DROP CONSTRAINT bets_check2;"
        "UPDATE betting.bets SET refunded = amount + 1 WHERE number = 1",
    ),
    "a round that lost count": (
        "rounds_count_their_bets",
        "UPDATE betting.rounds SET staked_a = staked_a + 1 WHERE name = 'open'",
    ),
    "a bet out of the count": (
        "rounds_count_their_bets",
        "UPDATE betting.bets SET number = 9 WHERE number = 2",
    ),
    "a match of unequal sides": (
        "matches_sum_to_matched",
        "UPDATE betting.bets SET matched = matched + 1 WHERE matched < amount - refunded",
    ),
    "a book that lost count": (
        "books_count_their_matches",
        "UPDATE betting.books SET matched = matched + 1",
    ),
    "a match against oneself": (
        "matches_join_two_sides",
        "UPDATE betting.bets SET user_id = (SELECT user_id FROM betting.bets LIMIT 1)",
    ),
    "a match on one side": (
        "matches_join_two_sides",
        "UPDATE betting.bets SET side = 'A' WHERE number = 4",
    ),
    "a match across rounds": (
        "matches_join_two_sides",
        "UPDATE betting.matches SET bet_a = (SELECT id FROM betting.bets WHERE side = 'A'"
        " AND round_id <> betting.matches.round_id LIMIT 1)",
    ),
    "a stake that was spent": (
        "stakes_cover_their_bets",
        "SELECT post('TRANSFER:x', ARRAY[s.id, f.id], ARRAY[-1, 1]) FROM ledger.accounts f,"
        " (SELECT id FROM ledger.accounts WHERE purpose = 'stake' AND balance > 0 LIMIT 1) s"
        " WHERE f.purpose = 'fees'",
    ),
    "a round that ended too soon": (
        "finished_rounds_hold_nothing",
        "UPDATE betting.rounds SET status = 'SETTLED', winner = 'A' WHERE name = 'closed'",
    ),
    "a doubled payout": (
        "matches_are_paid_once",
        "SELECT post('SETTLE:' || m.id || ':' || a.user_id, ARRAY[f.id, w.id],"
        " ARRAY[-m.amount, m.amount])"
        " FROM betting.matches m JOIN betting.bets a ON a.id = m.bet_a"
        " JOIN ledger.accounts w ON w.owner_id = a.user_id AND w.purpose = 'wallet'"
        " JOIN ledger.accounts f ON f.purpose = 'fees'"
        " JOIN betting.rounds r ON r.id = m.round_id AND r.name = 'settled' WHERE m.number = 1",
    ),
    "a payout that never came": (
        "matches_are_paid_once",
        "UPDATE betting.matches SET winner = 'A' WHERE winner IS NULL",
    ),
    "a fee of one too many": (
        "matches_are_paid_once",
        "UPDATE ledger.entries SET amount = amount + 1 WHERE type = 'FEE'",
    ),
    "a match for the loser": (
        "matches_go_to_the_winner",
        "UPDATE betting.rounds SET winner = 'A' WHERE name = 'settled'",
    ),
    "a payout that was too good": (
        "bets_get_what_they_won",
        "UPDATE betting.bets SET payout = payout + 1 WHERE payout > 0",
    ),
    "a round that paid too much": (
        "finished_rounds_pay_what_was_staked",
        "UPDATE betting.bets SET payout = payout + 1 WHERE payout > 0",
    ),
    "a second refund": (
        "refunds_are_posted_once",
        "SELECT post('VOID:' || b.id, ARRAY[s.id, w.id], ARRAY[-1, 1])"
        " FROM (SELECT * FROM betting.bets WHERE refunded BETWEEN 1 AND amount - 1 LIMIT 1) b"
        " JOIN ledger.accounts s ON s.owner_id = b.user_id AND s.purpose = 'stake'"
        " JOIN ledger.accounts w ON w.owner_id = b.user_id AND w.purpose = 'wallet'",
    ),
    "a bet both refunded and paid": (
        "nothing_is_refunded_and_paid",
        "SELECT post('REFUND:' || b.id, ARRAY[s.id, w.id], ARRAY[-1, 1])"
        " FROM (SELECT * FROM betting.bets WHERE settled = amount LIMIT 1) b"
        " JOIN ledger.accounts s ON s.owner_id = b.user_id AND s.purpose = 'stake'"
        " JOIN ledger.accounts w ON w.owner_id = b.user_id AND w.purpose = 'wallet'",
    ),
    "a bet after the close": (
        "closed_rounds_take_no_bets",
        "SELECT happen_again('betting.BetPlaced')",
    ),
    "a match after the end": (
        "finished_rounds_match_no_more",
        "SELECT happen_again('betting.MatchMade')",
    ),
    "a match of a bet that had not come up": (
        "finished_rounds_match_no_more",
        "UPDATE betting.books SET upto = 3",
    ),
    "a payout during a pause": (
        "nothing_is_paid_while_paused",
        "UPDATE audit.pauses SET began_snapshot = '10:10:'",
    ),
    "a later bet served first": (
        "first_come_is_first_served",
        "SELECT swap(3, 4)",
    ),
    "an earlier bet served last": (
        "bets_are_matched_in_order",
        "SELECT swap(2, 3)",
    ),
    "a pair that was passed over": (
        "nobody_is_passed_over",
        "UPDATE betting.bets b SET matched = matched - m.amount, done_at_tick = NULL"
        " FROM betting.matches m JOIN betting.rounds r ON r.id = m.round_id AND r.name = 'closed'"
        " WHERE m.number = 1 AND b.id IN (m.bet_a, m.bet_b);"
        "DELETE FROM betting.matches m USING betting.rounds r"
        " WHERE r.id = m.round_id AND r.name = 'closed' AND m.number = 1",
    ),
    "a stranded pair": (
        "no_pair_is_stranded",
        "UPDATE betting.bets SET user_id = gen_random_uuid() WHERE side = 'B'"
        " AND done_at_tick IS NULL",
    ),
    "a seed of another hash": (
        "seeds_are_those_published",
        "UPDATE betting.rounds SET seed = sha256(seed) WHERE kind = 'coinflip'",
    ),
    "a seed chosen afterwards": (
        "draws_follow_from_their_seed",
        "UPDATE betting.rounds SET seed = '\\x00', seed_hash = sha256('\\x00')"
        " WHERE kind = 'coinflip'",
    ),
    "a draw for the loser": (
        "draws_follow_from_their_seed",
        "UPDATE betting.matches m SET winner = CASE m.winner WHEN 'A' THEN 'B' ELSE 'A' END"
        "::betting.outcome FROM betting.rounds r WHERE r.id = m.round_id AND m.number = 2"
        " AND r.kind = 'coinflip'",
    ),
    "a dropped event": (
        "bets_have_their_events",
        "DELETE FROM events.log WHERE id ="
        " (SELECT id FROM events.log WHERE type = 'betting.BetPlaced' LIMIT 1)",
    ),
    "a settlement nobody heard of": (
        "matches_have_their_events",
        "DELETE FROM events.log WHERE type = 'betting.MatchSettled'",
    ),
    "a seal out of nowhere": (
        "seals_chain",
        "SELECT seal(1, 0); SELECT seal(3, 0)",
    ),
    "a seal that is gone": (
        "seals_chain",
        "UPDATE audit.reconciliations SET head = 1, head_digest = sha256('x')",
    ),
    "a seal over ranges that are not there": (
        "seals_keep_their_ranges",
        "SELECT seal(1, 1)",
    ),
    "a sealed range that leaves entries out": (
        "sealed_ranges_follow_each_other",
        "SELECT seal(1, 1); INSERT INTO audit.sealed VALUES (1, 2, 2, 1, 0, sha256('x'))",
    ),
    "a sealed account that is gone": (
        "sealed_accounts_are_there",
        "SELECT seal(1, 1); INSERT INTO audit.sealed VALUES (0, 1, 1, 1, 0, sha256('x'))",
    ),
    "a round whose end nobody heard of": (
        "rounds_have_their_events",
        "DELETE FROM events.log WHERE type = 'betting.RoundVoided'",
    ),
}

"""By name: the invariant that finds it, and the statements. They suit the history that
`test_invariants.py` writes."""

TOOLS = """
CREATE FUNCTION post(name text, accounts bigint[], amounts bigint[]) RETURNS void
LANGUAGE sql AS $$
    WITH transfer AS (
        INSERT INTO ledger.transfers (id, key, unit, created_by)
        VALUES (gen_random_uuid(), name, 'VND', 'hand') RETURNING id
    ), moved AS (
        UPDATE ledger.accounts a SET balance = balance + leg.amount, seq = seq + 1
        FROM unnest(accounts, amounts) AS leg (account, amount) WHERE a.id = leg.account
        RETURNING a.id, a.seq, leg.amount, a.balance
    )
    INSERT INTO ledger.entries
    SELECT m.id, m.seq, t.id, m.amount, m.balance, 'CREDIT' FROM moved m, transfer t;
$$;
CREATE FUNCTION happen_again(what text) RETURNS void LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM events.log WHERE type = what RETURNING *)
    INSERT INTO events.log (key, seq, id, type, payload, created_at)
    SELECT key, seq, id, type, payload, created_at FROM gone;
$$;
CREATE FUNCTION seal(number bigint, ranges bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO audit.seals (number, reconciliation_id, began_at, ranges, entries, turn, content,
        previous, digest)
    SELECT number, gen_random_uuid(), now(), ranges, ranges, 0, sha256('x'), sha256('y'),
        sha256(number::text::bytea);
$$;
CREATE FUNCTION swap(one bigint, other bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE betting.matches SET number = -number, tick = -tick WHERE number IN (one, other);
    UPDATE betting.matches SET number = one + other + number, tick = one + other + tick
    WHERE number < 0;
    UPDATE betting.bets SET done_at_tick = one + other - done_at_tick
    WHERE done_at_tick IN (one, other) AND refunded = 0;
$$;
"""
"""What the statements call: a transfer that chains, an event that comes again, later, two
matches of each round in each other's place, and a seal that nobody made."""
