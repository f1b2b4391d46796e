-- What the soak arms and disarms at run time, in the workers' own database. A trap that is not armed costs one look
-- at a table of two rows; what is counted must outlive transactions that are rolled back, hence sequences.
CREATE TABLE public.soak_trap (name text PRIMARY KEY, is_armed boolean NOT NULL DEFAULT false);
INSERT INTO public.soak_trap (name) VALUES ('killer-record'), ('slow-commit');
CREATE SEQUENCE public.soak_killed;
CREATE SEQUENCE public.soak_slowed;

CREATE FUNCTION public.soak_kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF (SELECT is_armed FROM public.soak_trap WHERE name = 'killer-record') THEN
        PERFORM nextval('public.soak_killed');
        PERFORM pg_terminate_backend(pg_backend_pid());
        -- The signal is heeded at the next wait.
        PERFORM pg_sleep(10);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER soak_kill BEFORE INSERT ON public.fraud_scores
    FOR EACH ROW WHEN (NEW.tx_id LIKE 'killer-%') EXECUTE FUNCTION public.soak_kill();

-- Fifteen rows of a transaction take a tenth of a second each; the one after them takes longer than any batch may.
CREATE FUNCTION public.soak_slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    rows integer := coalesce(nullif(current_setting('soak.slowed', true), ''), '0')::integer;
BEGIN
    IF (SELECT is_armed FROM public.soak_trap WHERE name = 'slow-commit') THEN
        PERFORM nextval('public.soak_slowed');
        PERFORM set_config('soak.slowed', (rows + 1)::text, true);
        PERFORM pg_sleep(CASE WHEN rows < 15 THEN 0.1 ELSE 600 END);
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER soak_slow AFTER INSERT ON public.fraud_scores DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.soak_slow();

-- What the balances were made of: rows that an operator undoes take their part out of them again.
CREATE TABLE public.kept_payments (account text NOT NULL, cents bigint NOT NULL, source_partition integer NOT NULL,
    source_offset bigint NOT NULL);
CREATE INDEX kept_payments_source ON public.kept_payments (source_partition, source_offset);
CREATE FUNCTION public.soak_correct() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- In the order of their keys, as the workers do, which are at work on the same accounts.
    PERFORM FROM public.account_balances b WHERE b.account IN (SELECT account FROM gone) ORDER BY account FOR UPDATE;
    UPDATE public.account_balances b SET balance_cents = b.balance_cents - g.cents, payments = b.payments - g.payments
    FROM (SELECT account, sum(cents) AS cents, count(*) AS payments FROM gone GROUP BY account) g WHERE b.account = g.account;
    RETURN NULL;
END $$;
CREATE TRIGGER soak_correct AFTER DELETE ON public.kept_payments REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION public.soak_correct();
