-- Rows as they look after years, written month by month into tables that get their indexes when
-- they become partitions.
create function pg_temp.fill(rows bigint, locks bigint) returns void language plpgsql as
$$
declare
    span  constant interval := '60 days';
    until constant timestamptz := date_trunc('hour', now());
    month date;
    name  text;
begin
    for month in
        select generate_series(date_trunc('month', until - span), date_trunc('month', until), '1 month')::date
    loop
        perform auditor.ensure_month(month::timestamptz);
        name := 'event_' || to_char(month, 'YYYY_MM');
        execute format('alter table auditor.event detach partition auditor.%I', name);
        execute format('alter table auditor.%I drop constraint if exists %I', name, name || '_pkey');
        execute (
            select coalesce(string_agg(format('drop index auditor.%I', indexname), ';'), 'select')
            from pg_indexes where schemaname = 'auditor' and tablename = name
        );
        execute format($sql$
            insert into auditor.%I (chain_id, seq, occurred_at, ingested_at, xid, direction, kind, client_id,
                process_id, action, lock_state, lock_state_raw, battery, publisher, receiver, username, verdict,
                findings, severity, nonce_str, cmd_ts, skew_ms, sign_bits, raw, raw_sha256, k_topic, k_partition,
                k_offset, mid, node, qos, leaf_hash, chain_hash, detail_hash)
            select n %% 6, n / 6 + 1, at, at, pg_current_xact_id(),
                case when is_command then 'downlink' else 'uplink' end,
                case when is_command then 'command' else 'result' end,
                lpad(lock::text, 17, '0'), lpad((n / 2)::text, 16, '0'), 'unlock',
                case when is_command then null else 'unlocked' end, case when is_command then null else 1 end,
                case when is_command then null else 83.4 end,
                case when is_command then 'operator' else lpad(lock::text, 17, '0') end,
                case when is_command then lpad(lock::text, 17, '0') end, '',
                case when n %% 1000 = 0 then 'replay' else 'ok' end, '{}',
                case when n %% 1000 = 0 then 3 else 0 end,
                case when is_command then 'n' || lpad(n::text, 15, '0') end,
                case when is_command then date_trunc('second', at) end, case when is_command then 40 end,
                case when is_command then 256 end,
                decode(repeat(md5(n::text), 12), 'hex'), decode(md5(n::text) || md5(n::text), 'hex'),
                case when is_command then 'message_command' else 'message_state' end, n %% 6, n / 6,
                md5(n::text), 'latchline@127.0.0.1', 1,
                decode(md5(n::text) || md5(n::text), 'hex'), decode(md5(n::text) || md5(n::text), 'hex'),
                decode(md5(n::text) || md5(n::text), 'hex')
            from (
                select n, n %% 2 = 0 as is_command, (n / 2) * 7919 %% $2 as lock,
                    date_trunc('milliseconds', $3 + (n::double precision / $1) * $4) as at
                from generate_series(0, $1 - 1) n
            ) as made
            where at >= $5 and at < $6
        $sql$, name)
        using rows, locks, until - span, span, month::timestamptz, (month + interval '1 month')::timestamptz;
        execute format('alter table auditor.event attach partition auditor.%I for values from (%L) to (%L)',
            name, month::text || ' 00:00:00+00', (month + interval '1 month')::date::text || ' 00:00:00+00');
    end loop;
end
$$;
