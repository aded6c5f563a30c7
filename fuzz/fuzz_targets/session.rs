//! The session core: whatever is done to it in whatever order, it knows what its model knows.
//!
//! Two bytes of the input are a step and a packet id or window.

#![no_main]

#[path = "../../broker/src/session/model.rs"]
mod model;

// Where the model looks for what it is of.
use latchline_broker::session::{Session, delivery, outbound};
use libfuzzer_sys::fuzz_target;
use model::{Model, Step, apply};

const WINDOW: u16 = 4;
const IDS: u8 = 11;

fuzz_target!(|input: &[u8]| {
    let (mut model, mut session) = (Model::new(WINDOW), Session::new(WINDOW));
    for pair in input.chunks_exact(2) {
        apply(&step(pair[0], pair[1]), &mut model, &mut session);
    }
});

fn step(what: u8, value: u8) -> Step {
    let id = u16::from(value % IDS) + 1;
    match what % 9 {
        0 => Step::Send(value % 2 == 0),
        1 => Step::Puback(id),
        2 => Step::Pubrec(id),
        3 => Step::Refused(id),
        4 => Step::Pubcomp(id),
        5 => Step::Reconnect(u16::from(value % 5) + 1),
        6 => Step::Resend,
        7 => Step::Receive(id),
        _ => Step::Release(id),
    }
}
