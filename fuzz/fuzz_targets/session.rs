//! The session core: whatever is done to it in whatever order, it knows what its model knows.
//!
//! The first byte of the input says whether packet ids begin anew or near their end; then two bytes each are
//! a step and what it is about.

#![no_main]

#[path = "../../broker/src/session/model.rs"]
mod model;

// Where the model looks for what it is of.
use latchline_broker::session::{Session, delivery, outbound};
use libfuzzer_sys::fuzz_target;
use model::{Model, Step, apply};

const WINDOW: u16 = 4;
/// What a publisher uses.
const IDS: u8 = 11;

fuzz_target!(|input: &[u8]| {
    let [begin, steps @ ..] = input else { return };
    let last_id = if begin % 2 == 0 { 0 } else { u16::MAX - u16::from(begin / 2) };
    let (mut model, mut session) = Model::begin(WINDOW, last_id);
    for pair in steps.chunks_exact(2) {
        apply(&step(pair[0], pair[1]), &mut model, &mut session);
    }
});

fn step(what: u8, value: u8) -> Step {
    let id = u16::from(value % IDS) + 1;
    match what % 9 {
        0 => Step::Send(value % 2 == 0),
        1 => Step::Puback(value),
        2 => Step::Pubrec(value),
        3 => Step::Refused(value),
        4 => Step::Pubcomp(value),
        5 => Step::Reconnect(u16::from(value % 5) + 1),
        6 => Step::Resend,
        7 => Step::Receive(id),
        _ => Step::Release(id),
    }
}
