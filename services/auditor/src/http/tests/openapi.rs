//! The description that is committed is the one that is served.

use latchline_shared::kit::api::testing::description::{assert_committed, assert_complete};

use super::*;
use crate::http::openapi::description;

#[test]
fn the_committed_description_is_that_of_the_code() {
    assert_committed(&description(), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn every_operation_says_what_it_takes_and_answers() {
    assert_complete(&description());
    let paths = description().paths.paths;
    assert_eq!(paths.len(), 8, "{:?}", paths.keys());
}

#[tokio::test]
async fn the_description_and_its_page_need_no_token_and_nothing_else() {
    let app = App::start().await;
    app.assert_described("Latchline auditor").await;
    assert!(app.reads().await.is_empty());
}
