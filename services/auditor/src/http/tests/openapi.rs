//! The description that is committed is the one that is served.

use super::*;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_committed_description_is_that_of_the_code() {
    let generated = crate::http::openapi::description().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(COMMITTED, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == generated,
        "openapi.json is out of date: UPDATE_OPENAPI=1 cargo test -p latchline-auditor openapi"
    );
}

#[test]
fn every_operation_says_what_it_takes_and_answers() {
    let description = serde_json::to_value(crate::http::openapi::description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 8, "{:?}", paths.keys());
    for (path, item) in paths {
        let operation = &item["get"];
        assert!(operation["summary"].is_string(), "{path}");
        for status in ["200", "400", "401", "403", "503"] {
            assert!(operation["responses"][status].is_object(), "{path} {status}");
        }
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["description"].is_string(), "{path} {parameter}");
        }
    }
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
