//! The configuration: what is wrong is told at the start.

use latchline_shared::kit::config::Validate;

use super::*;

fn problems(gateways: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    sms_settings(gateways).problems(&mut problems);
    problems
}

#[test]
fn presets_are_complete_but_for_what_is_ones_own() {
    let presets: toml::Table = toml::from_str(gateway_settings::PRESETS_TOML).unwrap();
    assert_eq!(presets.keys().collect::<Vec<_>>(), ["generic", "kannel", "twilio", "vonage"]);
    for name in presets.keys() {
        assert_eq!(problems(&[&preset(name, "http://127.0.0.1:1")]), Vec::<String>::new(), "{name}");
        let alone = format!("name = 'x'\npreset = '{name}'");
        assert_eq!(problems(&[&alone]).len(), 1, "{name}");
    }
}

#[test]
fn the_default_table_is_read() {
    let defaults: toml::Table = include_str!("../../../../../../config/notifier.toml").parse().unwrap();
    let settings = Settings::deserialize(defaults["sms"].clone()).unwrap();
    let mut problems = Vec::new();
    settings.problems(&mut problems);
    assert_eq!(problems, Vec::<String>::new());
    assert!(settings.gateways.is_empty() && settings.links().unwrap().is_none());

    let mut table = defaults["sms"].clone();
    let gateways = [preset("twilio", "http://h"), preset("kannel", "http://h")];
    let gateways = gateways.iter().map(|toml| toml::Value::Table(toml.parse().unwrap()));
    table.as_table_mut().unwrap().insert("gateways".to_owned(), gateways.collect::<Vec<_>>().into());
    assert_eq!(Settings::deserialize(table.clone()).unwrap().gateways[1].name, "kannel");
    for gateway in table["gateways"].as_array_mut().unwrap() {
        gateway.as_table_mut().unwrap().insert("speed".to_owned(), 5.into());
    }
    let error = Settings::deserialize(table).unwrap_err().to_string();
    assert!(error.contains("[0]: unknown field `speed`") && error.contains("[1]: unknown field"), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let ok = preset("generic", "http://127.0.0.1:1");
    for (own, expected) in [
        ("rps = -1", "invalid value: integer `-1`"),
        ("speed = 5", "unknown field `speed`"),
        ("success = { status = ['6xx'] }", "6xx is no status"),
        ("success = { status = [99] }", "99 is no status"),
        ("success = { statuses = [200] }", "unknown field `statuses`"),
        ("auth = { kind = 'magic' }", "unknown variant `magic`"),
        ("report = { map = { x = 'maybe' } }", "unknown variant `maybe`"),
        ("encode = 'xml'", "unknown variant `xml`"),
    ] {
        let error = gateway_settings(&format!("{ok}{own}")).unwrap_err();
        assert!(error.contains(expected), "{own}: {error}");
    }
    let error = gateway_settings("name = 'x'\npreset = 'pigeon'").unwrap_err();
    assert_eq!(error, "preset: there is none of this name, only generic, kannel, twilio, vonage");

    for (own, expected) in [
        ("params = { x = '{{ nobody }}' }", "params: x: cannot be filled in: undefined value"),
        ("params = { x = '{{ secret.nothing }}' }", "params: x: cannot be filled in: undefined value"),
        ("params = { x = '{{ to' }", "params: x: cannot be filled in: syntax error"),
        ("params = { x = { y = '' } }\nencode = 'form'", "params: must be flat unless encode is json"),
        ("method = 'GET'", "encode: a GET has no body"),
        ("headers = { 'a b' = '' }", "headers: a b is no name"),
        ("auth = { kind = 'bearer', token = '{{ to }}' }", "auth: cannot be filled in: undefined value"),
        ("auth = { kind = 'basic', user = 'a:b', password = '' }", "auth: user: must not hold a colon"),
        ("success = { status = [] }", "success.status: must not be empty"),
        ("success = { body_regex = '(' }", "success.body_regex: is no regular expression"),
        ("id_regex = '('", "id_regex: is no regular expression"),
        ("timeout_ms = 0", "timeout_ms: must not be 0"),
        ("ca_file = '/nowhere'", "ca_file: cannot read /nowhere"),
        ("secret_files = { x_token = '/nowhere' }", "x_token_file: cannot open /nowhere"),
        ("report = { auth = 'token' }", "report: auth: a token needs secrets.report_token"),
    ] {
        let problems = problems(&[&format!("{ok}{own}")]);
        assert_eq!(problems.len(), 1, "{own}: {problems:?}");
        assert!(problems[0].starts_with("sms.gateways[0]: generic: "), "{problems:?}");
        assert!(problems[0].contains(expected), "{own}: {problems:?}");
    }
    for (changed, expected) in [
        (ok.replace("api_token", "api_pass"), "the last word of its name (behind _, - or .) must be"),
        (ok.replace("name = 'generic'", "name = 'A/b'"), "name: must be 1 to 32 of a to z"),
        (preset("generic", "http://u:p@h"), "must not hold a user or a password: set auth"),
        (preset("generic", "ftp://h"), "url: must be http:// or https://"),
        (preset("generic", "http://h/{{ to }}"), "url: cannot be filled in with settings and secrets"),
    ] {
        let problems = problems(&[&changed]);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    }
    assert!(problems(&[&ok, &ok])[0].contains("is there twice"));
}

#[test]
fn own_keys_win_key_by_key() {
    let own = "params = { channel = 'transactional' }\nsuccess = { path = 'uuid' }\nauth = { kind = 'none' }";
    let gateway = gateway_settings(&format!("{}{own}", preset("generic", "http://h"))).unwrap();
    assert_eq!(gateway.params.len(), 6);
    assert_eq!(gateway.success.path.as_deref(), Some("uuid"));
    assert_eq!(gateway.success.status.len(), 1);
    assert!(matches!(gateway.auth, gateway_settings::Auth::None));
}

#[test]
fn reports_need_a_key_and_an_address() {
    let check = |settings: Settings, expected: &str| {
        let mut problems = Vec::new();
        settings.problems(&mut problems);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
    };
    let ok = || sms_settings(&[]);
    check(Settings { report_key: None, ..ok() }, "sms.report_key: is needed with public_url");
    check(Settings { report_key: Some("short".into()), ..ok() }, "sms.report_key: must have at least 16");
    for url in ["locks.example", "ftp://locks.example", "https://locks.example/?a=b"] {
        check(Settings { public_url: Some(url.to_owned()), ..ok() }, "sms.public_url: ");
    }
    check(Settings { concurrency: 0, ..ok() }, "sms.concurrency: must not be 0");
    assert!(Settings { public_url: None, ..ok() }.links().unwrap().is_none());
}
