-- name: add_user
-- The unique address decides between two that register it at once.
INSERT INTO identity.users (id, email, full_name, password_hash)
VALUES ($1, $2, $3, $4)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, full_name, role, created_at, disabled_at;

-- name: user
-- What a user may see of themselves; the hash never leaves with it.
SELECT id, email, full_name, role, created_at, disabled_at FROM identity.users WHERE id = $1;

-- name: users
-- Whom mails go to, many at once.
SELECT id, email, full_name, role, created_at, disabled_at FROM identity.users
WHERE id = ANY($1::uuid[]);

-- name: find_user
-- Operators know people by their address.
SELECT id, email, full_name, role, created_at, disabled_at FROM identity.users WHERE email = $1;

-- name: credentials
-- All that a login needs, in one read.
SELECT id, role, password_hash, disabled_at FROM identity.users WHERE email = $1;

-- name: rehash
-- Unless the password was changed while it was being hashed.
UPDATE identity.users SET password_hash = $3 WHERE id = $1 AND password_hash = $2;

-- name: act_as
-- For the triggers that note who made, ended or changed a user or a key.
SELECT set_config('strongroom.by', $1, true);

-- name: disable_user
-- The time of the first disabling stays.
UPDATE identity.users SET disabled_at = coalesce(disabled_at, now()) WHERE id = $1 RETURNING id;

-- name: open_session
-- The user's row is held, so that a disabling sees this session or this sees the disabling.
INSERT INTO identity.sessions (id, user_id, refresh_hash, created_at, refreshed_at, expires_at)
SELECT $1, u.id, $3, $4, $4, $5 FROM identity.users u
WHERE u.id = $2 AND u.disabled_at IS NULL FOR SHARE
RETURNING id;

-- name: lock_session
-- Who comes second with the same token waits here, and then finds it gone.
SELECT s.id, s.user_id, u.role
FROM identity.sessions s JOIN identity.users u ON u.id = s.user_id
WHERE s.refresh_hash = $1 AND s.revoked_at IS NULL AND s.expires_at > $2
    AND u.disabled_at IS NULL
FOR UPDATE OF s;

-- name: rotate
-- The old token is remembered in the statement that replaces it.
WITH used AS (
    INSERT INTO identity.used_refresh_tokens (refresh_hash, session_id, used_at)
    VALUES ($2, $1, $4)
)
UPDATE identity.sessions SET refresh_hash = $3, refreshed_at = $4, expires_at = $5 WHERE id = $1;

-- name: revoke_reused
-- A used token that comes again is in two hands: nobody keeps the session.
UPDATE identity.sessions s SET revoked_at = now(), revoked_because = 'refresh token used twice'
FROM identity.used_refresh_tokens used
WHERE used.refresh_hash = $1 AND s.id = used.session_id AND s.revoked_at IS NULL
RETURNING s.id, pg_notify('strongroom_revoked', s.id::text);

-- name: revoke_session
-- Told to every process in the transaction of the revocation.
UPDATE identity.sessions SET revoked_at = now(), revoked_because = $2
WHERE id = $1 AND revoked_at IS NULL
RETURNING id, pg_notify('strongroom_revoked', id::text);

-- name: revoke_sessions_of
-- Told to every process, session by session.
UPDATE identity.sessions SET revoked_at = now(), revoked_because = $2
WHERE user_id = $1 AND revoked_at IS NULL
RETURNING id, pg_notify('strongroom_revoked', id::text);

-- name: session_stands
-- The answer for a process that cannot hear of revocations.
SELECT EXISTS (SELECT FROM identity.sessions WHERE id = $1 AND revoked_at IS NULL);

-- name: revoked_lately
-- Whatever was revoked longer ago has no access token left that could still be shown.
SELECT id FROM identity.sessions WHERE revoked_at > now() - make_interval(secs => $1)
UNION ALL
SELECT id FROM identity.api_keys WHERE revoked_at > now() - make_interval(secs => $1);

-- name: forget_used
-- A token that would have expired by itself needs no watching any more.
DELETE FROM identity.used_refresh_tokens WHERE refresh_hash IN (
    SELECT refresh_hash FROM identity.used_refresh_tokens WHERE used_at < $1 LIMIT $2
)
RETURNING session_id;

-- name: add_key
-- Only the hash is kept: the secret is shown once.
INSERT INTO identity.api_keys (id, name, role, secret_hash) VALUES ($1, $2, $3, $4);

-- name: find_key
-- A revoked key is like an unknown one.
SELECT id, role FROM identity.api_keys WHERE secret_hash = $1 AND revoked_at IS NULL;

-- name: revoke_key
-- The time of the first revocation stays; telling twice does no harm.
UPDATE identity.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1
RETURNING id, pg_notify('strongroom_revoked', id::text);
