-- What the notifier knows. Read this first: the tables are the service.
--
-- Names are not qualified: connections have the schema in their search path. The service acts as
-- latchline_notifier.

do $$
begin
    create role latchline_notifier nologin;
exception
    when duplicate_object or unique_violation then null; -- another database of this server has made it
end
$$;
grant latchline_notifier to current_user;
do $$
begin
    execute format('grant usage on schema %I to latchline_notifier', current_schema());
end
$$;

-- People (or systems) who are told. Written over HTTP and by the seed. (USER is a word of SQL.)
create table users (
    id         text        primary key, -- chosen by whoever made it
    name       text        not null,
    locale     text        not null,    -- 'en', 'ja'
    time_zone  text        not null,    -- IANA name
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Where they are told. Nobody is told anything at an address that has not been verified, but the
-- code that verifies it.
create table contact (
    id              uuid        primary key, -- from user, channel and address
    user_id         text        not null references users on delete cascade,
    channel         text        not null check (channel in ('email', 'sms', 'webhook')),
    address         text        not null, -- user@host, +81…, https://…
    status          text        not null check (status in ('unverified', 'active', 'bounced')),
    secret          bytea,                -- of a webhook: the key of its signatures
    bounces         integer     not null default 0, -- hard ones since the last message that arrived
    bounced_at      timestamptz,
    verified_at     timestamptz,
    code_hash       bytea,                -- of the code that was sent; null if none is valid
    code_sent_at    timestamptz,          -- as created_at of the notification that takes it there
    code_tries      integer     not null default 0,
    created_at      timestamptz not null default now(),
    unique (user_id, channel, address)
);

-- How many codes went to an address, and how many wrong ones came back. It outlives contacts, so that
-- making one anew is no new chance. Rows go when their day is over.
create table code_count (
    address_hash bytea       primary key, -- sha256 of channel|address
    since        timestamptz not null,    -- the day that is counted begins
    codes        integer     not null,
    wrong        integer     not null,
    sent_at      timestamptz              -- the last code
);
create index code_count_by_time on code_count (since);

-- Whose lock it is.
create table lock_member (
    client_id  text        not null, -- the lock; '*': every lock, and what concerns none
    user_id    text        not null references users on delete cascade,
    lock_name  text        not null, -- what this user calls it; empty: nothing
    tier       smallint    not null default 0, -- told from this level of escalation on
    created_at timestamptz not null default now(),
    primary key (client_id, user_id)
);
create index member_by_user on lock_member (user_id, client_id);

-- What a user wants to be told of, and when. The row that says most holds as a whole: lock before
-- event type; without any row, the defaults of the configuration.
create table preference (
    user_id      text        not null references users on delete cascade,
    client_id    text        not null, -- '*': every lock
    event_type   text        not null, -- '*': every event
    channel      text        not null check (channel in ('email', 'sms', 'webhook')),
    enabled      boolean     not null,
    min_severity text        not null,
    quiet_from   time,                 -- in the user's time zone; both or none; may pass midnight
    quiet_to     time,
    digest_s     integer     not null default 0, -- collected for so long before it is told; 0: told at once
    created_at   timestamptz not null default now(),
    primary key (user_id, client_id, event_type, channel),
    check ((quiet_from is null) = (quiet_to is null))
);

-- One message to one address. Written by the lanes (with the offset of what it tells of), by the
-- digest and by the API; worked off by delivery; pruned.
create table notification (
    id          uuid        primary key, -- from event, user, channel and address: the same event again is the same id
    event_type  text        not null,
    severity    text        not null,
    priority    smallint    not null check (priority in (0, 1)), -- 1: critical, goes first
    client_id   text        not null,    -- the lock; empty: none
    process_id  text,                    -- of a result
    alarm_id    uuid,                    -- of a change of an alarm, and its number
    alarm_no    integer,
    user_id     text        not null,    -- no reference: what was sent stays when a user goes
    contact_id  uuid        not null,
    channel     text        not null,
    address     text        not null,
    locale      text        not null,
    time_zone   text        not null,
    facts       jsonb       not null,    -- what templates are filled with (src/event.rs)
    status      text        not null,    -- src/status.rs
    reason      text,                    -- one word: why it was suppressed, or how the last attempt ended
    attempts    integer     not null default 0,
    failures    integer     not null default 0, -- attempts that were answered with "later"
    ambiguous   integer     not null default 0, -- attempts that may have arrived
    due_at      timestamptz not null,    -- next attempt; of a digest's part, the digest
    digest      text,                    -- waits to be told with others of this name; null: alone
    digest_id   uuid,                    -- the notification that told of it
    lease_owner text,
    lease_until timestamptz,
    provider    text,                    -- of the last attempt
    provider_id text,                    -- what the provider calls it
    occurred_at timestamptz not null,    -- the event
    expires_at  timestamptz not null,    -- not told after that
    sent_at     timestamptz,             -- a provider has accepted it
    settled_at  timestamptz,             -- its status is final
    created_at  timestamptz not null default now()
) with (fillfactor = 70);
create index notification_due on notification (channel, priority desc, due_at) where status = 'pending' and digest is null;
create index notification_digest on notification (due_at) where status = 'pending' and digest is not null;
create index notification_by_digest on notification (digest, due_at) where status = 'pending' and digest is not null;
create index notification_expires on notification (expires_at) where status = 'pending' and digest is null;
create index notification_settled on notification (settled_at) where settled_at is not null;
create index notification_lease on notification (lease_until) where status = 'sending';
create index notification_listed on notification (created_at desc, id desc);
create index notification_of_user on notification (user_id, created_at desc, id desc);
create index notification_of_lock on notification (client_id, created_at desc, id desc);
create index notification_of_process on notification (process_id, created_at desc, id desc) where process_id is not null;
create index notification_of_alarm on notification (alarm_id, created_at desc, id desc) where alarm_id is not null;
-- What somebody looks for; of what went well there is too much.
create index notification_by_status on notification (status, created_at desc, id desc)
    where status in ('pending', 'sending', 'undelivered', 'ambiguous', 'suppressed', 'expired', 'dead');
create index notification_of_contact on notification (contact_id) where status in ('pending', 'sending');
-- What is erased when a user or a contact goes, in the order in which it is.
create index notification_to_erase on notification (user_id, contact_id, id) where address <> '';
create index notification_of_provider on notification (provider_id, provider) where provider_id is not null;

-- Attempts to deliver. A row is written before anything is sent, so that an attempt whose end
-- nobody saw is known.
create table attempt (
    notification_id uuid        not null references notification on delete cascade,
    n               integer     not null, -- from 1
    provider        text        not null,
    started_at      timestamptz not null default now(),
    ms              integer,              -- how long it took; null while it is under way
    outcome         text        not null, -- src/status.rs
    code            text,                 -- the provider's, or ours
    excerpt         text,                 -- the beginning of what it said
    primary key (notification_id, n)
);

-- Results that were seen: a heartbeat that repeats its process is none. Written by the lanes; the
-- newest of each lock is never pruned.
create table process (
    client_id  text        not null,
    process_id text        not null,
    at         timestamptz not null,
    primary key (client_id, process_id)
);
create index process_by_lock on process (client_id, at desc);
create index process_by_time on process (at, client_id, process_id);

-- How much was told lately (GCRA: the time at which the bucket is full again).
create table rate (
    key     text        primary key,
    full_at timestamptz not null
);
create index rate_by_time on rate (full_at);

-- How far the streams were read.
create table consumer_offset (
    stream      text    not null,
    partition   integer not null,
    next_offset bigint  not null,
    updated_at  timestamptz not null default now(),
    primary key (stream, partition)
);

grant select, insert, update, delete on users, contact, code_count, lock_member, preference, notification, attempt, process, rate to latchline_notifier;
grant select, insert, update on consumer_offset to latchline_notifier;
grant select on migration to latchline_notifier;
