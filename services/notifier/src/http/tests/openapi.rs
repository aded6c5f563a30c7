//! The description that is committed is the one that is served.

use latchline_shared::kit::api::testing::description::{assert_committed, assert_complete};

use super::*;
use crate::http::openapi::{REPORTS, description};

#[test]
fn the_committed_description_is_that_of_the_code() {
    assert_committed(&description(), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn every_operation_says_what_it_takes_and_answers() {
    let mut description = description();
    let reports = description.paths.paths.remove(REPORTS).unwrap();
    for operation in [reports.get.unwrap(), reports.post.unwrap()] {
        let answers: Vec<_> = operation.responses.responses.keys().map(String::as_str).collect();
        assert_eq!(answers, ["204", "400", "403", "404", "413", "500", "503"]);
    }
    assert_complete(&description);
    let paths = description.paths.paths;
    assert_eq!(paths.len(), 17, "{:?}", paths.keys());
}

#[tokio::test]
async fn the_description_and_its_page_need_no_token_and_nothing_else() {
    let app = App::start().await;
    app.assert_described("Latchline notifier").await;
}
