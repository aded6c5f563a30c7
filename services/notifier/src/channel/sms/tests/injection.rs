//! What strangers write into a text, or into a number, stays there.

use super::*;

const NASTY: [&str; 9] = [
    "a&To=%2B81000&b=c",
    "\", \"to\": \"+81000\", \"x\": \"",
    "line\r\nX-Injected: yes\r\n\r\nto=+81000",
    "{{ secret.api_token }} {% for x in [1] %}{{ x }}{% endfor %} {{ 7*7 }}",
    "#fragment?to=+81000;to=+81001,+81002",
    "\\u0022,\\\"to\\\":\\\"+81000",
    "100 % %0d%0aTo: %41 +",
    "\u{202e}\u{0}\u{7f}\t",
    "',--/*<script>",
];

#[tokio::test]
async fn a_text_stays_one_field() {
    for (name, text_field, to_field, to) in [
        ("twilio", "Body", "To", TO),
        ("vonage", "text", "to", &TO[1..]),
        ("kannel", "text", "to", TO),
        ("generic", "text", "to", TO),
    ] {
        let server = server(Reply::status(200)).await;
        let gateway = gateway(&preset(name, &server.url("")));
        for text in NASTY {
            gateway.send(&message(text)).await;
            let request = server.requests().pop().unwrap();
            assert_eq!(request.header("x-injected"), "");
            let fields = match name {
                "kannel" => request.query_fields(),
                "generic" => {
                    let json = request.json();
                    let fields = json.as_object().unwrap().iter();
                    fields.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
                }
                _ => request.form_fields(),
            };
            let with = |wanted: &str| -> Vec<&str> {
                let fields = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                fields.map(|(_, value)| value.as_str()).collect()
            };
            assert_eq!(with(text_field), [text], "{name}");
            assert_eq!(with(to_field), [to], "{name} {text:?}");
            let count =
                ["twilio", "vonage", "kannel", "generic"].iter().position(|one| *one == name).unwrap();
            assert_eq!(fields.len(), [4, 9, 9, 5][count], "{name} {text:?}");
        }
        assert_eq!(server.count(), NASTY.len() as u64);
    }
}

#[tokio::test]
async fn what_is_no_number_is_not_sent_to() {
    let server = server(Reply::status(200)).await;
    for name in ["twilio", "vonage", "kannel", "generic"] {
        let gateway = gateway(&preset(name, &server.url("")));
        for to in [
            "+819012341234,+819012341235",
            "+81901234 +8190",
            "+8190123&to=+81",
            "",
            "+81901234\r\n",
            "{{ to }}",
        ] {
            let answer = gateway.send(&Message { address: to.to_owned(), ..message("a") }).await;
            assert_eq!((answer.outcome, answer.bounce), (Outcome::Permanent, Some(Bounce::Gone)), "{to}");
        }
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_header_takes_one_line() {
    let server = server(Reply::json(200, &serde_json::json!({"id": "1"}))).await;
    let toml = format!("{}headers = {{ X-Text = '{{{{ text }}}}' }}", preset("generic", &server.url("")));
    let gateway = gateway(&toml);
    assert_eq!(gateway.send(&message("錠")).await.outcome, Outcome::Accepted);
    let answer = gateway.send(&message("a\r\nX-Injected: yes")).await;
    assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "cannot_fill"));
    assert!(!answer.excerpt.contains("Injected"), "{}", answer.excerpt);
    assert_eq!(server.count(), 1);
}
