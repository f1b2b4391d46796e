-- The sink of the `account_balances` example: running totals. Nothing in it is idempotent, so that a record which
-- was applied twice, or not at all, shows for ever.
CREATE TABLE IF NOT EXISTS account_balances (
    account       text   PRIMARY KEY,
    balance_cents bigint NOT NULL,
    payments      bigint NOT NULL
);
