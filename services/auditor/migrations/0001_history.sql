-- What the auditor knows. Read this first: the tables are the service.
--
-- Two roles. The owner (who migrates) may do everything; the service acts as latchline_auditor,
-- which may add to the history and never change or remove it.

do $$
begin
    create role latchline_auditor nologin;
exception
    when duplicate_object or unique_violation then null; -- another database of this server has made it
end
$$;
grant latchline_auditor to current_user;
grant usage on schema auditor to latchline_auditor;

-- The history: one row for each thing that happened. Rows of one chain are numbered from 1 without
-- gap and linked by hashes (src/chain.rs). A row is written once.
create table auditor.event (
    chain_id     smallint    not null, -- the partition of the stream; 32767 for what comes from no stream
    seq          bigint      not null, -- from 1, without gap
    occurred_at  timestamptz not null, -- when the broker saw it (the record's ts), in milliseconds
    ingested_at  timestamptz not null, -- when we wrote it
    xid          xid8        not null, -- the transaction that wrote it: the order of the polling query
    direction    text        not null, -- uplink, downlink, system
    kind         text        not null, -- command, attempt, result, change, finding, admin, read
    client_id    text        not null, -- the lock, by the topic; empty where it is about none
    process_id   text,
    action       text,
    lock_state     text,               -- canonical name
    lock_state_raw bigint,             -- as the lock said it
    battery      real,                 -- percent
    publisher    text,
    receiver     text,
    username     text,                 -- of the publisher (uplink) or the receiver (downlink)
    verdict      text        not null, -- of a command; ok, failed, denied of a result; else empty
    findings     text[]      not null,
    severity     smallint    not null, -- 0 info, 1 warning, 2 major, 3 critical
    reason       text,                 -- in words: why malformed, why rejected, what was asked for
    nonce_str    text,
    cmd_ts       timestamptz,          -- when the command says that it was signed
    skew_ms      bigint,               -- occurred_at - cmd_ts
    sign_bits    smallint,             -- 64 or 256
    kid          text,
    raw          bytea,                -- the whole record value; null once retention has removed it
    raw_sha256   bytea       not null,
    k_topic      text        not null, -- empty for what comes from no stream
    k_partition  integer     not null,
    k_offset     bigint      not null,
    mid          text,
    node         text,
    qos          smallint,
    leaf_hash    bytea       not null,
    chain_hash   bytea       not null,
    detail_hash  bytea       not null, -- links what leaf_hash does not cover
    primary key (occurred_at, chain_id, seq)
) partition by range (occurred_at);

create index event_of_lock on auditor.event (client_id, occurred_at, chain_id, seq);
create index event_of_process on auditor.event (process_id, occurred_at) where process_id is not null;
create index event_not_ok on auditor.event (verdict, occurred_at, chain_id, seq)
    where verdict not in ('', 'ok');
create index event_severe on auditor.event (occurred_at, chain_id, seq) where severity >= 2;
create index event_with_finding on auditor.event (occurred_at, chain_id, seq) where findings <> '{}';
create index event_in_chain on auditor.event (chain_id, seq);
create index event_as_written on auditor.event (xid, chain_id, seq);

-- The end of each chain. Locked (for update) by whoever appends.
create table auditor.chain_head (
    chain_id    smallint primary key,
    seq         bigint not null,
    chain_hash  bytea  not null,
    detail_hash bytea  not null
);

-- Nonces whose signature has verified.
create table auditor.nonce (
    client_id      text        not null,
    nonce_str      text        not null,
    payload_sha256 bytea       not null,
    first_at       timestamptz not null, -- the record's ts
    first_mid      text,
    first_from     text        not null,
    expires_at     timestamptz not null,
    primary key (client_id, nonce_str)
);
create index nonce_expiry on auditor.nonce (expires_at);

-- A command and its result, joined by (lock, process).
create table auditor.process (
    client_id    text        not null,
    process_id   text        not null,
    action       text,                  -- what was commanded; what was reported while no command is known
    nonce_str    text,                  -- of the first command that verified
    commanded_at timestamptz,           -- when it was signed
    delivered_at timestamptz,           -- when the lock acknowledged it
    reported_at  timestamptz,           -- when the lock reported the result
    outcome      text,                  -- ok, failed, denied; null while there is none
    verdict      text,                  -- of the command; null while none is known
    deadline_at  timestamptz,           -- when the other half is missed; null when there is nothing to miss
    chain_id     smallint    not null,  -- the lane that watches the deadline
    updated_at   timestamptz not null,
    primary key (client_id, process_id)
);
create index process_deadline on auditor.process (chain_id, deadline_at) where deadline_at is not null;
create index process_by_id on auditor.process (process_id);
create index process_age on auditor.process (updated_at);

-- What each lock reported last, as far as history needs it to tell a change from a heartbeat.
create table auditor.lock_state (
    client_id      text   primary key,
    lock_state_raw bigint not null,
    changed_at     timestamptz not null
);

-- Time as the records of a lane tell it, in each of its streams: one may be read far ahead of the
-- other. What is due is what is before both.
create table auditor.lane (
    chain_id    smallint primary key,
    reports_at  timestamptz,
    commands_at timestamptz
);

-- How far each stream has been read, written in the transaction of the effect.
create table auditor.consumer_offset (
    stream      text    not null,
    partition   integer not null,
    next_offset bigint  not null,
    updated_at  timestamptz not null default now(),
    primary key (stream, partition)
);

-- Signed states of chains.
create table auditor.checkpoint (
    id           bigint generated always as identity primary key,
    chain_id     smallint    not null,
    size         bigint      not null, -- the chain's seq
    chain_hash   bytea       not null,
    detail_hash  bytea       not null,
    note         text        not null, -- the signed note
    signed_at    timestamptz not null,
    published_to text[]      not null  -- stream, file
);
create unique index checkpoint_of_chain on auditor.checkpoint (chain_id, size);

-- Months that were archived and detached, as the runs of each chain that they held.
create table auditor.archived_run (
    month       date     not null,
    chain_id    smallint not null,
    first_seq   bigint   not null,
    last_seq    bigint   not null,
    chain_hash  bytea    not null, -- of the last row
    detail_hash bytea    not null, -- of the last row
    file        text     not null,
    file_sha256 bytea    not null,
    primary key (chain_id, first_seq)
);

-- Makes the partition of a month. The service may call it and may not create tables itself.
create function auditor.ensure_month(at timestamptz) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as
$$
declare
    first date := date_trunc('month', at at time zone 'UTC')::date;
    name  text := 'event_' || to_char(first, 'YYYY_MM');
begin
    if to_regclass('auditor.' || name) is not null then
        return;
    end if;
    -- One maker at a time, in all sessions; the lock goes with the transaction.
    perform pg_advisory_xact_lock(hashtextextended('latchline auditor month', 0));
    -- Asked of the table itself: what to_regclass remembers is from before the wait.
    if not exists (
        select from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = 'auditor' and relname = name
    ) then
        -- Made apart and then attached: that stops nobody who reads or writes the other months.
        execute format('create table auditor.%I (like auditor.event)', name);
        execute format(
            'alter table auditor.event attach partition auditor.%I for values from (%L) to (%L)',
            name, first::text || ' 00:00:00+00', (first + interval '1 month')::date::text || ' 00:00:00+00');
        execute format('grant select, insert on auditor.%I to latchline_auditor', name);
    end if;
end
$$;
revoke all on function auditor.ensure_month(timestamptz) from public;
grant execute on function auditor.ensure_month(timestamptz) to latchline_auditor;

grant select, insert on auditor.event to latchline_auditor;
grant select, insert, update (published_to) on auditor.checkpoint to latchline_auditor;
grant select on auditor.archived_run, auditor.migration to latchline_auditor;
grant select, insert, update on auditor.chain_head, auditor.lock_state, auditor.lane, auditor.consumer_offset
    to latchline_auditor;
grant select, insert, update, delete on auditor.nonce, auditor.process to latchline_auditor;
