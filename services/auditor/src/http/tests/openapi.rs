//! The description that is committed is the one that is served.

use latchline_shared::kit::api::testing::{assert_committed, assert_complete};

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
    let open = |path: &str| app.client.get(format!("{}{path}", app.base));
    let served = app.send(open("/openapi.json")).await;
    assert_eq!(served.json()["info"]["title"], "Latchline auditor");
    let page = app.send(open("/docs/")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("swagger-ui") && !page.body.contains("http://") && !page.body.contains("https://")
    );
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    for (path, contains) in [
        ("/docs/swagger-initializer.js", "/openapi.json"),
        ("/docs/swagger-ui.css", ".swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "function"),
    ] {
        let file = app.send(open(path)).await;
        assert_eq!((file.status.as_u16(), file.body.contains(contains)), (200, true), "{path}");
        assert_eq!(file.headers["x-content-type-options"], "nosniff");
    }
    assert!(app.reads().await.is_empty());
}
