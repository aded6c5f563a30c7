-- What the monitor knows. Read this first: the tables are the service.
--
-- Names are not qualified: the same statements make the schema `monitor` and the shadow of a
-- rebuild, whichever comes first in the search path. The service acts as latchline_monitor.

do $$
begin
    create role latchline_monitor nologin;
exception
    when duplicate_object or unique_violation then null; -- another database of this server has made it
end
$$;
grant latchline_monitor to current_user;
do $$
begin
    execute format('grant usage on schema %I to latchline_monitor', current_schema());
end
$$;

-- The present state of each lock, and what the rules remember of it. Written by the lane that reads
-- its reports, one row for each lock of a batch; never pruned. No index holds a column that changes
-- with every report, so that an update stays on its page.
create table lock_current (
    client_id      text        primary key,
    partition      integer     not null, -- the lane
    lock_state     text        not null, -- canonical name
    lock_state_raw bigint,               -- as the lock said it; null while it has said nothing readable
    since          timestamptz not null, -- since when the state is this
    battery        real,                 -- percent, the last good value
    battery_at     timestamptz,
    version        text,                 -- raw text
    last_report_at timestamptz not null, -- the newest report's ts
    last_offset    bigint      not null, -- its place in the stream of reports
    online         boolean     not null,
    online_since   timestamptz not null, -- since when it is online, or offline
    pending_at     timestamptz,          -- when the first delay that is running ends; null if none is
    memory         json        not null, -- what the rules remember (src/lock)
    created_at     timestamptz not null default now()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);
create index lock_of_lane on lock_current (partition, client_id);
create index lock_pending on lock_current (pending_at, client_id) where pending_at is not null;
create index lock_offline on lock_current (client_id) where not online;
create index lock_by_state on lock_current (lock_state, client_id);

-- Battery by the hour, a row for each lock and day (UTC): the median of each hour in tenths of a
-- percent, null where there is none. Written by lanes; pruned after 90 days by the sweep.
create table battery_day (
    client_id  text       not null,
    day        date       not null,
    hours      smallint[] not null, -- 24
    created_at timestamptz not null default now(),
    primary key (client_id, day)
);
create index battery_by_day on battery_day (day);

-- Alarms. Written by lanes, the sweep and operators, each under the row's lock; pruned a year after
-- they were closed.
create table alarm (
    id            uuid        primary key, -- from lock, type, time and the record that raised it
    client_id     text        not null, -- the lock; empty for an alarm of the fleet
    type          text        not null,
    severity      text        not null,
    state         text        not null, -- active, acknowledged, cleared, closed
    condition     boolean     not null, -- whether it still holds
    raised_at     timestamptz not null,
    last_at       timestamptz not null, -- when the condition was seen last
    cleared_at    timestamptz,          -- when it was over
    closed_at     timestamptz,
    acked_at      timestamptz,
    acked_by      text,
    shelved_until timestamptz,
    count         integer     not null, -- how often the condition came
    value         json        not null, -- the last value that was looked at
    level         smallint    not null, -- how often it was escalated
    announced_at  timestamptz,          -- when somebody should have been told last; null if nobody was
                                        -- since it became active or worse
    told          boolean     not null, -- whether somebody heard of it, and not yet that it is over
    changed_at    timestamptz not null, -- when its last event happened: none happens before
    look_at       timestamptz,          -- when the sweep looks at it next; null: never
    no            integer     not null, -- number of its last event
    created_at    timestamptz not null default now()
);
create unique index alarm_open on alarm (client_id, type) where state <> 'closed';
create index alarm_newest on alarm (raised_at desc, id desc);
create index alarm_of_lock on alarm (client_id, raised_at desc, id desc);
create index alarm_of_type on alarm (type, raised_at desc, id desc);
create index alarm_open_newest on alarm (raised_at desc, id desc) where state <> 'closed';
create index alarm_open_kind on alarm (type, severity) where state <> 'closed';
create index alarm_look_at on alarm (look_at, id) where look_at is not null;
create index alarm_closed on alarm (closed_at) where closed_at is not null;

-- Every change of an alarm. Written with the alarm, never changed; pruned with it.
create table alarm_event (
    alarm_id   uuid        not null references alarm (id) on delete cascade,
    no         integer     not null, -- from 1 without gap
    at         timestamptz not null,
    change     text        not null,
    from_state text,
    to_state   text        not null,
    severity   text        not null,
    origin     text        not null, -- report, finding, clock, operator
    actor      text        not null,
    cause      json        not null,
    value      json        not null,
    notify     boolean     not null,
    suppressed_by text,
    xid        xid8        not null default pg_current_xact_id(), -- the order of the live stream
    seq        bigint      not null generated always as identity,
    created_at timestamptz not null default now(),
    primary key (alarm_id, no)
);
create index alarm_event_as_written on alarm_event (xid, seq);

-- Who does not want to hear of what until when. Written by operators; pruned 90 days after the end.
create table silence (
    id         uuid        primary key,
    matchers   json        not null, -- [{"name": "type", "value": "battery_*"}]
    starts_at  timestamptz not null,
    ends_at    timestamptz not null,
    created_by text        not null,
    comment    text        not null,
    created_at timestamptz not null default now()
);
create index silence_end on silence (ends_at);

-- Each lane's view of the clock and of its locks, written with each of its transactions, once a second
-- at least while it is alive; what the fleet's alarm is decided on.
create table lane (
    partition     integer     primary key,
    version       bigint      not null, -- how often it was written: whoever remembers another number is behind
    evaluated_at  timestamptz not null, -- up to when delays have been looked at
    live_since    timestamptz,          -- since when it has kept up without a break; null if it does not
    last_report_at timestamptz,         -- the newest report of any of its locks
    locks         bigint      not null,
    offline       bigint      not null, -- of these
    lost          bigint      not null, -- fell silent within the last window
    findings      json        not null default '{}', -- the last finding of each chain of the auditor: its seq and time
    updated_at    timestamptz not null default now()
);

-- What is remembered of the fleet: one row. Written by the instance that sweeps.
create table fleet (
    one          boolean     primary key default true check (one),
    is_down      boolean     not null, -- whatever people make of its alarm
    recovered_at timestamptz,          -- when it was down last
    memory       json        not null, -- what the rule remembers (src/rule/fleet.rs)
    updated_at   timestamptz not null default now()
);

-- How far each stream has been read, written in the transaction of the effect.
create table consumer_offset (
    stream      text    not null,
    partition   integer not null,
    next_offset bigint  not null,
    updated_at  timestamptz not null default now(),
    primary key (stream, partition)
);

-- Records on their way to the alarm stream. Written with the change; removed once they are stored.
create table outbox (
    seq        bigint      generated always as identity primary key,
    key        text        not null,
    value      bytea       not null,
    headers    jsonb       not null default '{}',
    created_at timestamptz not null default now(),
    refused_at timestamptz -- Kafka will never take it
);
create index outbox_waiting on outbox (seq) where refused_at is null;

-- Changes on their way to the webhook. Written with the change if there is a webhook; removed once
-- they were taken, or given up.
create table webhook (
    seq             bigint      generated always as identity primary key,
    body            json        not null, -- one alert in the form of Alertmanager
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null default now(),
    created_at      timestamptz not null default now()
);
create index webhook_due on webhook (next_attempt_at, seq);

grant select, insert, update on lock_current, battery_day, alarm, lane, fleet, consumer_offset to latchline_monitor;
grant select, insert on alarm_event to latchline_monitor;
grant select, insert, update, delete on silence, outbox, webhook to latchline_monitor;
grant delete on battery_day, alarm, alarm_event to latchline_monitor;
grant select on migration to latchline_monitor;
