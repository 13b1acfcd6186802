-- name: connections
-- What a pool too many costs shows here first. Of other logins only the number is to be seen.
SELECT count(*) AS opened,
    count(*) FILTER (WHERE state <> 'idle' AND pid <> pg_backend_pid()) AS busy,
    current_setting('max_connections')::integer AS allowed
FROM pg_stat_activity WHERE backend_type = 'client backend';
