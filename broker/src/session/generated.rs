//! The session against its model, by random steps.

use proptest::prelude::*;

use super::model::{Model, Step, apply};

fn step() -> impl Strategy<Value = Step> {
    let id = 1..12u16;
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Send),
        3 => any::<u8>().prop_map(Step::Puback),
        2 => any::<u8>().prop_map(Step::Pubrec),
        1 => any::<u8>().prop_map(Step::Refused),
        2 => any::<u8>().prop_map(Step::Pubcomp),
        1 => (1..6u16).prop_map(Step::Reconnect),
        3 => Just(Step::Resend),
        2 => id.clone().prop_map(Step::Receive),
        2 => id.prop_map(Step::Release),
    ]
}

/// The last packet id before: none, or one of the last.
fn last_id() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), u16::MAX - 8..=u16::MAX]
}

proptest! {
    #[test]
    fn session_does_what_the_model_does(
        last_id in last_id(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut model, mut session) = Model::begin(4, last_id);
        for step in &steps {
            apply(step, &mut model, &mut session);
        }
    }
}

#[test]
fn what_is_in_flight_is_acknowledged_for_as_long_as_it_goes_on() {
    let (mut model, mut session) = Model::begin(4, u16::MAX - 2);
    for _ in 0..100 {
        // The oldest of two stays in flight.
        for step in [Step::Send(false), Step::Send(false), Step::Puback(0)] {
            apply(&step, &mut model, &mut session);
        }
        apply(&Step::Puback(0), &mut model, &mut session);
    }
    assert_eq!(session.outbound.next_id().get(), 199, "past the end, where 0 is no id");
}
