//! The presets: exactly what each gateway is sent.

use super::*;

const MAC: &str = "mac";

/// One message by this preset; the request, with the signature of the link replaced.
async fn sent(name: &str, text: &str, reply: Reply) -> (crate::sink::http::Request, String, Answer) {
    let server = server(reply).await;
    let answer = gateway(&preset(name, &server.url(""))).send(&message(text)).await;
    let request = server.requests().remove(0);
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let link = sms_settings(&[]).links().unwrap().unwrap().url(name, ID);
    let mac = link.split_once("mac=").unwrap().1;
    (request, body.replace(mac, MAC), answer)
}

#[tokio::test]
async fn twilio() {
    let reply = Reply::json(201, &serde_json::json!({"sid": "SM1", "error_code": null}));
    let (request, body, answer) = sent("twilio", "Front door: unlocked & open", reply).await;
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/2010-04-01/Accounts/AC%2F1/Messages.json");
    assert_eq!(request.header("authorization"), "Basic QUMvMTp0b2s6ZW4=");
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        body,
        "Body=Front+door%3A+unlocked+%26+open&From=Lock&StatusCallback=https%3A%2F%2Flocks.example%2Fn\
         %2Fv1%2Fdlr%2Ftwilio%3Fref%3D01234567-89ab-cdef-0123-456789abcdef%26mac%3Dmac&To=%2B819012341234"
    );
    assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Accepted, Some("SM1")));
}

#[tokio::test]
async fn vonage() {
    let sent_ok =
        serde_json::json!({"message-count": "1", "messages": [{"status": "0", "message-id": "0A1"}]});
    let (request, body, answer) = sent("vonage", "玄関: 解錠", Reply::json(200, &sent_ok)).await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/sms/json"));
    assert_eq!(request.header("authorization"), "");
    assert_eq!(
        body,
        "api_key=k&api_secret=s%26s&callback=https%3A%2F%2Flocks.example%2Fn%2Fv1%2Fdlr%2Fvonage%3Fref\
         %3D01234567-89ab-cdef-0123-456789abcdef%26mac%3Dmac&client-ref=01234567-89ab-cdef-0123-456789abcdef\
         &from=Lock&status-report-req=1&text=%E7%8E%84%E9%96%A2%3A+%E8%A7%A3%E9%8C%A0&to=819012341234\
         &type=unicode"
    );
    assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Accepted, Some("0A1")));
}

#[tokio::test]
async fn kannel() {
    let text = "0: Accepted for delivery: 6a4ffdb4-2b6c-4e0c-9f36-4a1b8b1a0d11";
    let (request, body, answer) = sent("kannel", "a b", Reply::text(202, text)).await;
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), body.as_str()),
        ("GET", "/cgi-bin/sendsms", "")
    );
    let fields = request.query_fields();
    let field = |wanted: &str| {
        let mut fields = fields.iter().filter(|(name, _)| name == wanted);
        let value = fields.next().unwrap().1.clone();
        assert!(fields.next().is_none());
        value
    };
    for (name, value) in [
        ("username", "u"),
        ("password", "p&p"),
        ("from", "Lock"),
        ("to", TO),
        ("text", "a b"),
        ("charset", "UTF-8"),
        ("coding", "0"),
        ("dlr-mask", "19"),
    ] {
        assert_eq!(field(name), value);
    }
    assert!(field("dlr-url").starts_with("https://locks.example/n/v1/dlr/kannel?ref=01234567-"));
    assert!(field("dlr-url").ends_with("&status=%d"));
    assert_eq!(fields.len(), 9);
    assert_eq!(answer.provider_id.as_deref(), Some("6a4ffdb4-2b6c-4e0c-9f36-4a1b8b1a0d11"));
    let (request, _, answer) = sent("kannel", "錠", Reply::text(202, "3: Queued for later delivery")).await;
    assert!(request.query.contains("coding=2") && request.query.contains("to=%2B819012341234"));
    assert_eq!((answer.outcome, answer.provider_id), (Outcome::Accepted, None));
}

#[tokio::test]
async fn generic() {
    let (request, body, answer) =
        sent("generic", "a", Reply::json(202, &serde_json::json!({"id": 17}))).await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/messages"));
    assert_eq!(request.header("authorization"), "Bearer tok");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("idempotency-key"), ID.to_string());
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        serde_json::json!({
            "id": ID.to_string(), "to": TO, "from": "Lock", "text": "a",
            "report_url": format!("https://locks.example/n/v1/dlr/generic?ref={ID}&mac=mac"),
        })
    );
    assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Accepted, Some("17")));
}

#[tokio::test]
async fn what_is_empty_is_left_out() {
    let server = server(Reply::status(500)).await;
    for name in ["twilio", "vonage", "kannel", "generic"] {
        let settings = Settings { public_url: None, ..sms_settings(&[&preset(name, &server.url(""))]) };
        let gateway = Gateway::new(&settings.gateways[0], &settings).unwrap();
        gateway.send(&message("a")).await;
    }
    // One with a link of its own is not given others.
    let token = "secrets = { api_token = 't', report_token = 'w' }\nreport = { auth = 'token' }\n";
    let toml = format!("name = 'own'\npreset = 'generic'\nurl = '{}'\n{token}", server.url("/"));
    gateway(&toml).send(&message("a")).await;
    assert_eq!(server.count(), 5);
    for request in server.requests() {
        let whole = format!("{}{}", request.query, String::from_utf8_lossy(&request.body)).to_lowercase();
        for name in ["callback", "report", "dlr"] {
            assert!(!whole.contains(name), "{whole}");
        }
    }
}

#[tokio::test]
async fn a_gateway_that_none_fits_is_described() {
    let server = server(Reply::text(200, "OK id=77")).await;
    let toml = format!(
        "name = 'own'\nmethod = 'PUT'\nencode = 'json'\nurl = '{}?v=1'\nsettings = {{ campaign = 'c' }}\n\
         secrets = {{ api_key = 'sesame' }}\nauth = {{ kind = 'header', name = 'X-Key', value = '{{{{ secret.api_key }}}}' }}\n\
         success = {{ status = [200], body_regex = '^OK' }}\nid_regex = 'id=(\\d+)'\n\
         headers = {{ X-Ref = '{{{{ id }}}}' }}\n\
         [params]\nkind = 7\nflash = false\nrecipients = [{{ msisdn = '{{{{ to }}}}' }}]\n\
         message = {{ body = '{{{{ text }}}}', tags = ['{{{{ setting.campaign }}}}', '{{{{ from }}}}'] }}",
        server.url("/send")
    );
    let answer = gateway(&toml).send(&message("hi")).await;
    assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Accepted, Some("77")));
    let request = server.requests().remove(0);
    assert_eq!((request.method.as_str(), request.query.as_str()), ("PUT", "v=1"));
    assert_eq!((request.header("x-key"), request.header("x-ref")), ("sesame", ID.to_string().as_str()));
    assert_eq!(
        request.json(),
        serde_json::json!({
            "kind": 7, "flash": false, "recipients": [{"msisdn": TO}],
            "message": {"body": "hi", "tags": ["c"]},
        })
    );
}
