//! The warnings that a fault brings: all in one table, so that whatever else a process says fails the run.

use std::time::Duration;

use crate::checker::fault::Fault;
use crate::checker::ledger::Part;

/// A warning that a fault brings: who says it, what is in the line, and why that is as it should be.
pub type Warning = (&'static [Part], &'static str, &'static str);

const SERVICES: &[Part] = &[Part::Auditor, Part::Monitor, Part::Notifier];
const PUBLISHERS: &[Part] = &[Part::Auditor, Part::Monitor];

const SESSION_OVER: &str = r#""kind":"SESSTMOUT""#;
const REJOINED: &str = r#""kind":"FATAL""#;
const FENCED: &str = r#""kind":"FencedInstanceId""#;
const LATE_END: &str = "an attempt ended after its lease";

/// What nobody says of a pause that is brief.
const OF_LONG_ONES: [&str; 4] = [SESSION_OVER, REJOINED, FENCED, LATE_END];
/// As long as a lease (`chaos`), and shorter than any session.
const BRIEF_MAX: Duration = Duration::from_secs(2);

/// What who starts says while somebody is away.
pub const OF_A_START: &[(Part, Warning)] = &[
    (
        Part::Kafka,
        (&[Part::Broker], "kafka is away, its topics are checked later", "it starts without Kafka, too"),
    ),
    (Part::Postgres, (SERVICES, "postgres is waited for", "a service starts without Postgres, too")),
];

/// While Kafka is away. Each of these ends by itself when it is back.
const NO_KAFKA: &[Warning] = &[
    (&[Part::Broker], "kafka cannot be reached", "PUBACKs wait, and somebody should know why"),
    (SERVICES, "kafka cannot be reached", "nothing comes in, and somebody should know why"),
    (SERVICES, "reading waits", "a service without Kafka is not ready, and says why"),
    (PUBLISHERS, "publishing waits", "findings and alarms wait in the outbox"),
    (&[Part::Auditor], "checkpoints are not made", "a checkpoint that is not on the stream is made again"),
    (SERVICES, SESSION_OVER, "the coordinator did not answer for a whole session"),
    (SERVICES, r#""kind":"COMMITFAIL""#, "offsets are in Postgres; Kafka's are for its tools"),
    (SERVICES, REJOINED, "a named member that joined anew is taken for another: it joins once more"),
    (SERVICES, FENCED, "the same"),
];

/// While Postgres is away. Each of these ends by itself when it is back.
const NO_POSTGRES: &[Warning] = &[
    (SERVICES, "deadpool.postgres", "the pool finds its connections closed"),
    (SERVICES, "reading waits", "nothing is read that cannot be stored"),
    (PUBLISHERS, "publishing waits", "the outbox cannot be read"),
    (&[Part::Auditor], "checkpoints are not made", "what shall be signed cannot be read"),
    (&[Part::Monitor], "alarms are not looked at", "the sweep waits"),
    (&[Part::Notifier], "the queue cannot be read", "messages wait"),
    (&[Part::Notifier], "notifications are not heard", "the connection that listens is gone"),
    (&[Part::Notifier], "digests are not made", "they wait"),
    (&[Part::Notifier], "delivery cannot be looked after", "leases wait"),
    (&[Part::Notifier], "the end of an attempt is not written yet", "it is when Postgres is back"),
    (
        &[Part::Notifier],
        LATE_END,
        "its end could not be written for longer than that: it is settled as one that may have arrived",
    ),
];

/// While the mail server is away.
const NO_MAIL_SERVER: &[Warning] =
    &[(&[Part::Notifier], "a provider fails, and is left alone", "mails wait for the server")];

/// After a service has stood still for as long as a session of its Kafka group: nobody heard of it, so the
/// group went on without it. It joins again and reads on from what Postgres says. A wall clock that is
/// set back does this, too: the client library waits until times of that clock, so longer by the step.
const fn out_of_group(who: &'static [Part]) -> [Warning; 2] {
    [
        (who, SESSION_OVER, "it finds that it was silent for a whole session"),
        (who, r#""kind":"COMMITFAIL""#, "offsets are in Postgres; Kafka's are for its tools"),
    ]
}

const SILENT_AUDITOR: &[Warning] = &out_of_group(&[Part::Auditor]);
const SILENT_MONITOR: &[Warning] = &out_of_group(&[Part::Monitor]);
const SILENT_NOTIFIER: &[Warning] = &out_of_group(&[Part::Notifier]);
/// Less than a session of ten seconds (`stack::service`), which began with the last heartbeat, and that was a
/// second ago or, on a busy machine, more.
const SILENCE_MIN: Duration = Duration::from_secs(7);

/// What a fault brings. A process of ours that is killed or stopped brings nothing: nobody else may
/// complain, and it goes on where it was.
pub fn of(fault: Fault) -> impl Iterator<Item = &'static Warning> {
    let is_brief = matches!(fault, Fault::Paused(_, duration) if duration < BRIEF_MAX);
    all_of(fault).iter().filter(move |(_, text, _)| !(is_brief && OF_LONG_ONES.contains(text)))
}

fn all_of(fault: Fault) -> &'static [Warning] {
    let is_silent = match fault {
        Fault::Paused(_, duration) => duration >= SILENCE_MIN,
        Fault::Stepped(_, seconds, _) => Duration::from_secs(seconds.unsigned_abs()) >= SILENCE_MIN,
        Fault::Killed(_) | Fault::Stopped(..) | Fault::Full(..) => false,
    };
    match fault.part() {
        Part::Auditor if is_silent => SILENT_AUDITOR,
        Part::Monitor if is_silent => SILENT_MONITOR,
        Part::Notifier if is_silent => SILENT_NOTIFIER,
        Part::Kafka => NO_KAFKA,
        Part::Postgres => NO_POSTGRES,
        Part::Mail => NO_MAIL_SERVER,
        Part::Broker | Part::Auditor | Part::Monitor | Part::Notifier => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_cannot_bring_is_not_announced() {
        let seconds = Duration::from_secs;
        for (fault, text, is_announced) in [
            (Fault::Paused(Part::Kafka, seconds(1)), FENCED, false),
            (Fault::Paused(Part::Kafka, seconds(3)), FENCED, true),
            (Fault::Paused(Part::Postgres, seconds(1)), LATE_END, false),
            (Fault::Killed(Part::Postgres), LATE_END, true),
            (Fault::Paused(Part::Monitor, seconds(6)), SESSION_OVER, false),
            (Fault::Paused(Part::Monitor, seconds(8)), SESSION_OVER, true),
            (Fault::Stepped(Part::Monitor, 5, seconds(8)), SESSION_OVER, false),
            (Fault::Stepped(Part::Monitor, -8, seconds(3)), SESSION_OVER, true),
            (Fault::Stopped(Part::Mail, seconds(8)), SESSION_OVER, false),
            (Fault::Killed(Part::Broker), SESSION_OVER, false),
        ] {
            assert_eq!(of(fault).any(|(_, said, _)| *said == text), is_announced, "{fault:?} {text}");
        }
    }
}
