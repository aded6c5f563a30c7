-- What is to be published to the stream of findings. Written in the transaction of the history that
-- it is about; removed by the instance that publishes. A message that Kafka will never take stays
-- with refused_at; an operator removes it, or sets that to null to try again.
create table auditor.outbox (
    seq        bigint generated always as identity primary key,
    key        text        not null, -- the lock
    value      bytea       not null, -- JSON, docs/contract.md, section 7
    headers    jsonb       not null default '{}',
    created_at timestamptz not null default now(),
    refused_at timestamptz
);
create index outbox_waiting on auditor.outbox (seq) where refused_at is null;
grant select, insert, update, delete on auditor.outbox to latchline_auditor;
