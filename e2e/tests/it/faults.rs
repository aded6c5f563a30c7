//! Parts of the whole system die, stand still or go away while locks report and are commanded;
//! afterwards each promise is accounted for.

use std::io::Write;
use std::time::Duration;

use latchline_e2e::chaos::Chaos;
use latchline_e2e::chaos::schedule::Means;
use latchline_e2e::chaos::trial::Trial;
use latchline_e2e::checker::fault::Fault;
use latchline_e2e::checker::ledger::Part;
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::stack::ground::{Ground, Room};
use latchline_shared::kit::testing::Seed;

/// How long what goes away stays away.
const AWAY: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_is_killed() {
    let parts = [Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier, Part::Kafka, Part::Postgres];
    check("each_process_is_killed", &parts.map(|part| Trial::Alone(Fault::Killed(part)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_program_is_stopped_in_order() {
    let parts = [Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier];
    let trials = parts.map(|part| Trial::Alone(Fault::Stopped(part, AWAY / 4)));
    check("each_program_is_stopped", &trials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_need_goes_away_for_a_while() {
    let parts = [Part::Kafka, Part::Postgres, Part::Mail];
    let trials = parts.map(|part| Trial::Alone(Fault::Stopped(part, AWAY)));
    check("what_others_need_goes_away", &trials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_stands_still_for_a_while() {
    let parts = [Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier, Part::Kafka, Part::Postgres];
    let trials = parts.map(|part| Trial::Alone(Fault::Paused(part, AWAY)));
    check("each_process_stands_still", &trials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_are_full_and_clocks_are_stepped() {
    let trials = [
        Trial::Alone(Fault::Full(Part::Kafka, AWAY)),
        Trial::Alone(Fault::Full(Part::Postgres, AWAY)),
        Trial::Alone(Fault::Stepped(Part::Auditor, 20, AWAY)),
        Trial::Alone(Fault::Stepped(Part::Monitor, -20, AWAY)),
        Trial::Alone(Fault::Stepped(Part::Notifier, 20, AWAY)),
    ];
    check("disks_and_clocks", &trials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_killed_while_what_it_needs_is_away() {
    let trial = |away, after, killed| Trial::While(Fault::Stopped(away, AWAY), after, Fault::Killed(killed));
    let trials = [
        trial(Part::Kafka, AWAY / 2, Part::Broker),
        trial(Part::Mail, Duration::ZERO, Part::Notifier),
        trial(Part::Postgres, Duration::ZERO, Part::Monitor),
    ];
    check("a_process_is_killed_while", &trials).await;
}

#[expect(clippy::disallowed_macros, reason = "the figures are worth reading")]
async fn check(name: &str, trials: &[Trial]) {
    let choice = Choice::of_environment().unwrap();
    if choice != Choice::Apache {
        let why = "it stops and kills an Apache Kafka of its own, and here is";
        return say(&format!("{name}: SKIPPED, nothing was tested: {why} {}", choice.name()));
    }
    let mut random = Seed::of_this_run().random(name);
    let is_shaky = trials.iter().any(|trial| !trial.is_possible(Means { disks: false, clocks: false }));
    let missing = |what| say(&format!("{name}: LEFT OUT here, {what}"));
    let ground = match is_shaky {
        true => Ground::shaky(choice, Room::Minutes, missing).await,
        false => Ground::firm(Kafka::start(choice).await.unwrap()).await,
    };
    let mut chaos = Chaos::start(ground.unwrap(), Seed(random.number())).await.unwrap();
    let means = chaos.means();
    let (possible, impossible): (Vec<Trial>, Vec<Trial>) =
        trials.iter().partition(|trial| trial.is_possible(means));
    for trial in impossible {
        say(&format!("{name}: LEFT OUT here, {trial:?}"));
    }
    if possible.is_empty() {
        return say(&format!("{name}: SKIPPED, nothing was tested: this machine permits none of it"));
    }
    for trial in possible {
        println!("{name}: {}", chaos.undergo(trial).await.unwrap());
    }
    let outcome = chaos.account().await.unwrap();
    println!("{name}: accounted after {:?}\n{}", outcome.lasted, outcome.account);
    outcome.check().unwrap_or_else(|error| panic!("{error}:\n{}", outcome.account));
}

/// Past what captures the output: whoever runs the tests shall know what they have not shown.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
