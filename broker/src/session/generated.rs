//! The session against its model, by random steps.

use proptest::prelude::*;

use super::Session;
use super::model::{Model, Step, apply};

fn step() -> impl Strategy<Value = Step> {
    let id = 1..12u16;
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Send),
        3 => id.clone().prop_map(Step::Puback),
        2 => id.clone().prop_map(Step::Pubrec),
        1 => id.clone().prop_map(Step::Refused),
        2 => id.clone().prop_map(Step::Pubcomp),
        1 => (1..6u16).prop_map(Step::Reconnect),
        3 => Just(Step::Resend),
        2 => id.clone().prop_map(Step::Receive),
        2 => id.prop_map(Step::Release),
    ]
}

proptest! {
    #[test]
    fn session_does_what_the_model_does(steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::new(4);
        let mut session = Session::new(4);
        for step in &steps {
            apply(step, &mut model, &mut session);
        }
    }
}
