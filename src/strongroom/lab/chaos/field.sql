-- name: waiting
-- What workers still have to do.
SELECT coalesce(sum(waiting), 0)::bigint FROM audit.queue_lengths();

-- name: buried
-- Nothing may end among the dead letters because of a fault that has passed.
SELECT queue, count(*) AS messages, min(error) AS error FROM events.dead_letters
WHERE ended_at IS NULL GROUP BY 1 ORDER BY 1;

-- name: ends_of_leases
-- What a killed worker held comes again after its lease; these statements, one a queue, end all
-- leases at once. That a living worker's message comes twice by that is no harm.
SELECT format('UPDATE pgmq.%I SET vt = clock_timestamp() WHERE vt > clock_timestamp()',
    'q_' || queue_name) AS statement
FROM pgmq.meta ORDER BY 1;
