CREATE SCHEMA payments;

CREATE TYPE payments.method AS ENUM ('MOMO', 'ZALOPAY', 'BANKING', 'CARD');
CREATE TYPE payments.status AS ENUM ('PENDING', 'SUCCESS', 'FAILED');
CREATE TYPE payments.refund_status AS ENUM ('PENDING', 'DONE');
CREATE TYPE payments.kind AS ENUM ('callback', 'query');

-- The payee settles a payment while it holds the row; the poll skips rows that are held.
CREATE TABLE payments.payments (
    id uuid PRIMARY KEY,
    payee text NOT NULL,
    order_id uuid NOT NULL,
    user_id uuid NOT NULL,
    method payments.method NOT NULL,
    provider text NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    status payments.status NOT NULL DEFAULT 'PENDING',
    provider_ref text,
    failure text,
    redirect_url text,
    captured bigint CHECK (captured >= 0),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    queries integer NOT NULL DEFAULT 0,
    next_query_at timestamptz,
    CHECK ((status = 'PENDING') = (settled_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX payments_order ON payments.payments (order_id);
CREATE INDEX payments_to_query ON payments.payments (next_query_at)
    WHERE status = 'PENDING' AND next_query_at IS NOT NULL;
COMMENT ON COLUMN payments.payments.payee IS 'The application whose event tells of it.';
COMMENT ON COLUMN payments.payments.captured IS 'What the provider says it took.';
COMMENT ON COLUMN payments.payments.redirect_url IS 'The provider''s page; ours leads there.';
COMMENT ON COLUMN payments.payments.next_query_at IS 'When its provider is asked next.';

CREATE TABLE payments.refunds (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL UNIQUE REFERENCES payments.payments,
    amount bigint NOT NULL CHECK (amount > 0),
    reason text NOT NULL,
    status payments.refund_status NOT NULL DEFAULT 'PENDING',
    provider_ref text,
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    CHECK ((status = 'DONE') = (done_at IS NOT NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN payments.refunds.id IS 'Made from the payment''s, so a second one is the first.';

-- Everything that a provider, or whoever claims to be one, has said. No foreign key: it may name
-- a payment that never was.
CREATE TABLE payments.callbacks (
    id uuid PRIMARY KEY,
    provider text NOT NULL,
    kind payments.kind NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    verdict text NOT NULL,
    payment_id uuid,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX callbacks_payment ON payments.callbacks (payment_id);
CREATE INDEX callbacks_received ON payments.callbacks USING brin (received_at);
COMMENT ON COLUMN payments.callbacks.kind IS 'Told by the provider, or answered when asked.';
COMMENT ON COLUMN payments.callbacks.body IS 'The bytes as they came: signatures are over these.';

-- What the sandbox's bank believes. A bank's books are its own: nothing else reads them.
CREATE TYPE payments.charge_state AS ENUM ('waiting', 'paid', 'refused');
CREATE TABLE payments.sandbox_charges (
    payment_id uuid PRIMARY KEY,
    amount bigint NOT NULL CHECK (amount >= 0),
    plan text NOT NULL,
    state payments.charge_state NOT NULL,
    captured bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    step integer NOT NULL DEFAULT 0,
    due_at timestamptz,
    expires_at timestamptz NOT NULL,
    refund_id uuid,
    refunded bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (refunded BETWEEN 0 AND captured),
    CHECK ((refund_id IS NULL) = (refunded = 0))
) WITH (fillfactor = 80);
CREATE INDEX sandbox_charges_due ON payments.sandbox_charges (due_at) WHERE due_at IS NOT NULL;
COMMENT ON COLUMN payments.sandbox_charges.plan IS 'How it goes on: `success`, `slow`, `late` …';
COMMENT ON COLUMN payments.sandbox_charges.step IS 'How many steps of the plan are done.';
COMMENT ON COLUMN payments.sandbox_charges.due_at IS 'When the next step of the plan is due.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON payments.callbacks
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER not_emptied BEFORE TRUNCATE ON payments.callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE payments.callbacks ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE payments.callbacks ENABLE ALWAYS TRIGGER not_emptied;

GRANT USAGE ON SCHEMA payments TO strongroom_app, strongroom_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA payments TO strongroom_app, strongroom_audit;
GRANT INSERT, UPDATE ON payments.payments, payments.refunds, payments.sandbox_charges
    TO strongroom_app;
GRANT INSERT ON payments.callbacks TO strongroom_app;
