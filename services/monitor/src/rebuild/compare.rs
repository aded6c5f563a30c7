//! Compares what was live with what was rebuilt: table by table, in parts that each join a
//! bounded number of rows, and tells of the first rows that differ how they do.
//!
//! Not compared: what only says when and in which order something was written or will be looked at,
//! presence, and alarms that were copied. Of these it is looked whether each is what its last event
//! says.

use std::io::Write;

use anyhow::Context;
use serde_json::Value;
use tokio_postgres::Client;

use super::COPIED;

/// Rows that are told of each table.
const EXAMPLES_MAX: usize = 5;
/// About so many rows are compared by one statement. Each reads both tables from end to end to find
/// its own, so parts are large: they bound what is joined and sorted at once, not what is read.
const PART_ROWS: i64 = 2_000_000;

/// A table and what of it is compared.
struct Table {
    name: &'static str,
    key: &'static str,
    /// What people call a row; more than its key, if that says little.
    label: &'static str,
    content: String,
    /// Of a row, where `{was}` is the prefix of the copies.
    filter: String,
}

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: &'static str,
    /// Rows that are live.
    pub live: i64,
    /// Rows that were rebuilt.
    pub rebuilt: i64,
    /// Rows of either that are not the same in the other.
    pub different: i64,
    /// How the first of them differ.
    pub examples: Vec<String>,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// By table.
    pub tables: Vec<TableReport>,
    /// Why the result may differ.
    pub notes: Vec<String>,
    /// The shadow schema, if it is still there.
    pub kept: Option<String>,
}

impl Report {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.different == 0)
    }

    /// For people, one line for each fact.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for TableReport { name, live, rebuilt, different, examples } in &self.tables {
            let verdict = if *different == 0 { "equal".to_owned() } else { format!("{different} DIFFERENT") };
            writeln!(out, "{name}: {live} rows live, {rebuilt} rebuilt, {verdict}")?;
            for example in examples {
                writeln!(out, "  {example}")?;
            }
            let untold = usize::try_from(*different).unwrap_or(usize::MAX).saturating_sub(examples.len());
            if untold > 0 {
                writeln!(out, "  and {untold} more")?;
            }
        }
        for note in &self.notes {
            writeln!(out, "{note}, so the result may differ")?;
        }
        if let Some(schema) = &self.kept {
            writeln!(out, "what was live (was_…) and what was rebuilt are in schema {schema}")?;
        }
        let verdict = match self.is_equal() {
            true => "the rebuilt tables equal the live ones",
            false => "the rebuilt tables are DIFFERENT from the live ones",
        };
        writeln!(out, "{verdict}")
    }
}

/// Compares all tables.
pub(super) async fn compare(client: &Client) -> anyhow::Result<Vec<TableReport>> {
    let mut reports = Vec::new();
    for table in tables() {
        reports.push(table.compare(client).await.with_context(|| format!("compare {}", table.name))?);
    }
    reports.push(copied(client).await.context("compare copied alarms")?);
    Ok(reports)
}

fn tables() -> [Table; 4] {
    let copied = COPIED.map(|alarm| format!("'{}'", alarm.name())).join(", ");
    let alarm = [
        "client_id",
        "type",
        "severity",
        "state",
        "condition",
        "raised_at",
        "last_at",
        "cleared_at",
        "closed_at",
        "acked_at",
        "acked_by",
        "shelved_until",
        "count",
        "value::text",
        "level",
        "announced_at",
        "told",
        "changed_at",
        "no",
    ];
    let event = [
        "at",
        "change",
        "from_state",
        "to_state",
        "severity",
        "origin",
        "actor",
        "cause::text",
        "value::text",
        "notify",
        "suppressed_by",
    ];
    let lock = [
        "partition",
        "lock_state",
        "lock_state_raw",
        "since",
        "battery",
        "battery_at",
        "version",
        "last_report_at",
        "last_offset",
        "pending_at",
    ];
    let memory = format!(
        "'memory', (memory::jsonb - '{{raised,rare,back,offline_worse}}'::text[]) || jsonb_build_object(
            'rare', coalesce((memory::jsonb -> 'rare') - 'edges', '{{}}'),
            'raised', (select coalesce(jsonb_agg(word order by word), '[]')
                from jsonb_array_elements_text(coalesce(memory::jsonb -> 'raised', '[]')) as word
                where word not in ({copied})))"
    );
    [
        Table {
            name: "lock_current",
            key: "client_id",
            label: "client_id",
            content: format!("{}, {memory}", fields(&lock)),
            filter: "true".to_owned(),
        },
        Table {
            name: "battery_day",
            key: "client_id || ' ' || day",
            label: "client_id || ' ' || day",
            content: fields(&["hours"]),
            filter: "true".to_owned(),
        },
        Table {
            name: "alarm",
            key: "id::text",
            label: "concat_ws(' ', id, 'of lock', client_id, type)",
            content: fields(&alarm),
            filter: format!("type not in ({copied})"),
        },
        Table {
            name: "alarm_event",
            key: "alarm_id || ' ' || lpad(no::text, 10, '0')",
            label: "concat_ws(' ', no, change, 'of alarm', alarm_id)",
            content: fields(&event),
            filter: format!("alarm_id <> all(array(select id from {{was}}alarm where type in ({copied})))"),
        },
    ]
}

/// Names and values for an object. A value that is JSON is compared as it was written.
fn fields(columns: &[&str]) -> String {
    let field = |column: &&str| format!("'{}', {column}", column.trim_end_matches("::text"));
    columns.iter().map(field).collect::<Vec<_>>().join(", ")
}

impl Table {
    async fn compare(&self, client: &Client) -> anyhow::Result<TableReport> {
        let (live, rebuilt) = (self.count(client, "was_").await?, self.count(client, "").await?);
        let parts = live.max(rebuilt) / PART_ROWS + 1;
        let (was, now) = (self.select("was_"), self.select(""));
        let select = format!(
            "with was as ({was}), now as ({now})
            select coalesce(was.label, now.label), was.content::text, now.content::text, count(*) over ()
            from was full join now on was.key = now.key
            where was.content is distinct from now.content
            order by coalesce(was.key, now.key) limit {EXAMPLES_MAX}"
        );
        let (mut different, mut examples) = (0, Vec::new());
        for part in 0..parts {
            let rows = client.query(&select, &[&parts, &part]).await?;
            different += rows.first().map_or(Ok(0), |row| row.try_get(3))?;
            for row in rows.iter().take(EXAMPLES_MAX.saturating_sub(examples.len())) {
                let (label, was, now): (&str, Option<&str>, Option<&str>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                examples.push(example(label, was, now)?);
            }
        }
        Ok(TableReport { name: self.name, live, rebuilt, different, examples })
    }

    async fn count(&self, client: &Client, was: &str) -> anyhow::Result<i64> {
        let filter = self.filter.replace("{was}", was);
        let select = format!("select count(*) from {was}{} where {filter}", self.name);
        Ok(client.query_one(&select, &[]).await?.try_get(0)?)
    }

    fn select(&self, was: &str) -> String {
        let Self { name, key, label, content, filter } = self;
        let filter = filter.replace("{was}", was);
        format!(
            "select {key} as key, {label} as label, jsonb_build_object({content}) as content
            from {was}{name} where {filter} and abs(hashtext({key})::bigint) % $1 = $2"
        )
    }
}

/// Whether each copied alarm is what its last event says.
async fn copied(client: &Client) -> anyhow::Result<TableReport> {
    let types = COPIED.map(|alarm| alarm.name());
    let select = "select concat_ws(' ', alarm.id, 'of lock', client_id, type), count(*) over ()
        from was_alarm alarm left join was_alarm_event event on event.alarm_id = alarm.id and event.no = alarm.no
        where type = any($1)
            and ((to_state, event.severity, at) is distinct from (state, alarm.severity, changed_at)
                or alarm.no <> (select count(*) from was_alarm_event every where every.alarm_id = alarm.id))
        order by 1 limit 5";
    let rows = client.query(select, &[&types.as_slice()]).await?;
    let count = "select count(*) from was_alarm where type = any($1)";
    let count: i64 = client.query_one(count, &[&types.as_slice()]).await?.try_get(0)?;
    let different = rows.first().map_or(Ok(0), |row| row.try_get(1))?;
    let tell = |row: &tokio_postgres::Row| {
        let label: &str = row.try_get(0)?;
        anyhow::Ok(format!("{}: its events do not lead to it", label.escape_debug()))
    };
    let examples = rows.iter().map(tell).collect::<anyhow::Result<_>>()?;
    Ok(TableReport { name: "copied alarms", live: count, rebuilt: count, different, examples })
}

/// How a row differs. What locks have chosen is escaped.
fn example(label: &str, was: Option<&str>, now: Option<&str>) -> anyhow::Result<String> {
    let label = label.escape_debug();
    Ok(match (was, now) {
        (Some(was), Some(now)) => {
            let mut differences = Vec::new();
            differ("", &serde_json::from_str(was)?, &serde_json::from_str(now)?, &mut differences);
            format!("{label}: {}", differences.join("; "))
        }
        (None, _) => format!("{label}: rebuilt, but not live"),
        (_, None) => format!("{label}: live, but not rebuilt"),
    })
}

fn differ(path: &str, was: &Value, now: &Value, differences: &mut Vec<String>) {
    let (Value::Object(was), Value::Object(now)) = (was, now) else {
        if was != now {
            differences.push(format!("{path} is {was}, rebuilt {now}"));
        }
        return;
    };
    let mut names: Vec<&String> = was.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        differ(&path, &of(was), &of(now), differences);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_name() {
        let (was, now) = (r#"{"a": 1, "m": {"x": 1, "y": [2]}, "z": null}"#, r#"{"a": 1, "m": {"x": 1}}"#);
        assert_eq!(example("k", Some(was), Some(now)).unwrap(), "k: m.y is [2], rebuilt null");
        assert_eq!(example("k\u{1b}", Some(was), None).unwrap(), "k\\u{1b}: live, but not rebuilt");
        assert_eq!(example("k", None, Some(now)).unwrap(), "k: rebuilt, but not live");
    }
}
