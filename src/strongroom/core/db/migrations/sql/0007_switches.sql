-- What is changed at run time, and who changed it ------------------------------------------------

-- A row is a limit that an operator changed; without a value the setting counts again.
CREATE TABLE audit.limits (
    name text PRIMARY KEY,
    value jsonb,
    since timestamptz NOT NULL,
    by_whom text NOT NULL,
    reason text NOT NULL
);

CREATE TABLE audit.actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    by_whom text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    reason text NOT NULL DEFAULT ''
);
COMMENT ON TABLE audit.actions IS
    'Written by triggers alone: nobody has to remember it, and no role may write it by itself.';

-- A switch named queue:NAME pauses a queue; who receives reads this, whatever the table's name.
CREATE VIEW audit.paused_queues AS
SELECT substr(name, length('queue:') + 1) AS queue, since, by_whom, reason
FROM audit.switches WHERE paused AND starts_with(name, 'queue:');

-- Each queue is a table of its own, so looking into all of them takes dynamic SQL, and looking at
-- more than the oldest million would take long. What is leased has been read and is somebody's;
-- what is delayed never was; what is stalled came back at least once.
CREATE FUNCTION events.queue_states(most bigint DEFAULT 1000000) RETURNS TABLE (
    queue text, waiting bigint, delayed bigint, stalled bigint, oldest_s double precision,
    leased bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOR queue IN SELECT m.queue_name FROM pgmq.meta m ORDER BY 1 LOOP
        EXECUTE format(
            'SELECT count(*), count(*) FILTER (WHERE read_ct = 0 AND vt > now()),
                count(*) FILTER (WHERE read_ct > 1 OR read_ct = 1 AND vt <= now()),
                coalesce(extract(epoch FROM now() - min(enqueued_at)), 0),
                count(*) FILTER (WHERE read_ct > 0 AND vt > now())
            FROM (SELECT read_ct, vt, enqueued_at FROM pgmq.%I ORDER BY msg_id LIMIT $1) oldest',
            'q_' || queue
        ) INTO waiting, delayed, stalled, oldest_s, leased USING most;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Who acts says so in the row, else in the setting strongroom.by of the transaction; else it is
-- the login, as when somebody works on the tables by hand.
CREATE FUNCTION audit.actor(said text) RETURNS text LANGUAGE sql STABLE
RETURN coalesce(said, nullif(current_setting('strongroom.by', true), ''), 'login:' || session_user);

CREATE FUNCTION audit.given_reason(said text) RETURNS text LANGUAGE sql STABLE
RETURN coalesce(said, nullif(current_setting('strongroom.reason', true), ''), '');

-- Switches and limits look alike. A change that leaves the time as it was is one by hand.
CREATE FUNCTION audit.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    stands jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    name text := coalesce(stands, was) ->> 'name';
    by_hand boolean := stands IS NULL OR coalesce(stands -> 'since' = was -> 'since', false);
    matter text := CASE WHEN TG_TABLE_NAME = 'limits' THEN 'limit'
        WHEN starts_with(name, 'queue:') THEN 'queue' ELSE name END;
    act text := CASE WHEN stands IS NULL THEN 'remove'
        WHEN matter = 'limit' AND stands ->> 'value' IS NULL THEN 'unset'
        WHEN matter = 'limit' THEN 'set'
        WHEN (stands ->> 'paused')::boolean THEN 'pause' ELSE 'resume' END;
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, before, after, reason) VALUES (
        audit.actor(CASE WHEN NOT by_hand THEN stands ->> 'by_whom' END),
        matter || '.' || act,
        CASE matter WHEN 'queue' THEN substr(name, length('queue:') + 1) ELSE name END,
        was - 'name', stands - 'name',
        audit.given_reason(CASE WHEN NOT by_hand THEN stands ->> 'reason' END)
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION audit.note_reconciliation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, after) VALUES (
        NEW.requested_by, 'reconciliation.record', NEW.id::text,
        jsonb_build_object('clean', NEW.clean,
            'violated', jsonb_path_query_array(NEW.findings, '$[*].invariant'))
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION audit.note_reversal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, after, reason) VALUES (
        NEW.created_by, 'transfer.reverse', NEW.reverses::text,
        jsonb_build_object('transferId', NEW.id), audit.given_reason(NEW.reference)
    );
    RETURN NULL;
END
$$;

-- One row for all that one statement ended, or a thousand retries would hide everything else.
CREATE FUNCTION audit.note_dead_letters() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, after, reason)
    SELECT audit.actor(NULL),
        'dead_letters.' || CASE e.ending WHEN 'retried' THEN 'retry' ELSE 'discard' END, e.queue,
        jsonb_build_object('count', count(*), 'ids', jsonb_agg(e.id ORDER BY e.id)),
        audit.given_reason(NULL)
    FROM ended e JOIN before b USING (id)
    WHERE e.ending IS NOT NULL AND b.ending IS NULL
    GROUP BY e.queue, e.ending ORDER BY e.queue;
    RETURN NULL;
END
$$;

CREATE FUNCTION audit.note_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, after, reason) VALUES (
        audit.actor(NULL), CASE TG_OP WHEN 'INSERT' THEN 'api_key.create'
            ELSE 'api_key.revoke' END,
        NEW.id::text, jsonb_build_object('name', NEW.name, 'role', NEW.role),
        audit.given_reason(NULL)
    );
    RETURN NULL;
END
$$;

-- Who registers has a password, and is nobody's act; an operator, or a user without one, is.
CREATE FUNCTION audit.note_new_users() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, after, reason)
    SELECT audit.actor(NULL), 'users.create', CASE count(*) WHEN 1 THEN min(m.id::text)
            ELSE m.role END,
        jsonb_build_object('role', m.role, 'count', count(*)), audit.given_reason(NULL)
    FROM made m WHERE m.role = 'operator' OR m.password_hash IS NULL
    GROUP BY m.role;
    RETURN NULL;
END
$$;

CREATE FUNCTION audit.note_user() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.actions (by_whom, action, subject, before, after, reason) VALUES (
        audit.actor(NULL), CASE WHEN NEW.role <> OLD.role THEN 'user.role'
            WHEN NEW.disabled_at IS NULL THEN 'user.enable' ELSE 'user.disable' END,
        NEW.id::text, jsonb_build_object('role', OLD.role, 'disabledAt', OLD.disabled_at),
        jsonb_build_object('role', NEW.role, 'disabledAt', NEW.disabled_at),
        audit.given_reason(NULL)
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER noted AFTER INSERT OR DELETE ON audit.switches
FOR EACH ROW EXECUTE FUNCTION audit.note_change();
CREATE TRIGGER noted_change AFTER UPDATE ON audit.switches
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION audit.note_change();
CREATE TRIGGER noted AFTER INSERT OR DELETE ON audit.limits
FOR EACH ROW EXECUTE FUNCTION audit.note_change();
CREATE TRIGGER noted_change AFTER UPDATE ON audit.limits
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION audit.note_change();
CREATE TRIGGER noted AFTER INSERT ON audit.reconciliations
FOR EACH ROW EXECUTE FUNCTION audit.note_reconciliation();
CREATE TRIGGER noted AFTER INSERT ON ledger.transfers
FOR EACH ROW WHEN (NEW.reverses IS NOT NULL) EXECUTE FUNCTION audit.note_reversal();
CREATE TRIGGER noted AFTER UPDATE ON events.dead_letters
REFERENCING OLD TABLE AS before NEW TABLE AS ended
FOR EACH STATEMENT EXECUTE FUNCTION audit.note_dead_letters();
CREATE TRIGGER noted AFTER INSERT ON identity.api_keys
FOR EACH ROW EXECUTE FUNCTION audit.note_key();
CREATE TRIGGER noted_change AFTER UPDATE ON identity.api_keys
FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
EXECUTE FUNCTION audit.note_key();
CREATE TRIGGER noted AFTER INSERT ON identity.users REFERENCING NEW TABLE AS made
FOR EACH STATEMENT EXECUTE FUNCTION audit.note_new_users();
CREATE TRIGGER noted_change AFTER UPDATE ON identity.users
FOR EACH ROW WHEN (OLD.role IS DISTINCT FROM NEW.role
    OR OLD.disabled_at IS DISTINCT FROM NEW.disabled_at) EXECUTE FUNCTION audit.note_user();

DO $$
DECLARE
    noted record;
BEGIN
    FOR noted IN SELECT t.tgrelid::regclass AS at, t.tgname AS name FROM pg_trigger t
        WHERE t.tgname IN ('noted', 'noted_change') LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', noted.at, noted.name);
    END LOOP;
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.actions
FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER not_emptied BEFORE TRUNCATE ON audit.actions
FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE audit.actions ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.actions ENABLE ALWAYS TRIGGER not_emptied;

-- They run as the owner: nobody calls them, triggers do.
DO $$
DECLARE
    ours regprocedure;
BEGIN
    FOR ours IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'audit'::regnamespace
        AND (starts_with(p.proname, 'note_') OR p.proname IN ('actor', 'given_reason')) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours);
    END LOOP;
END
$$;

GRANT SELECT ON audit.limits, audit.actions, audit.paused_queues
    TO strongroom_app, strongroom_audit;
GRANT INSERT, UPDATE ON audit.limits TO strongroom_app;
