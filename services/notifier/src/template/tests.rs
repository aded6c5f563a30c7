use std::path::Path;
use std::sync::LazyLock;

use latchline_shared::alarm::AlarmType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::DigestItem;

static BUILT_IN: LazyLock<Templates> = LazyLock::new(|| Templates::load(None).unwrap());

fn tokyo() -> TimeZone {
    TimeZone::get("Asia/Tokyo").unwrap()
}

fn mail(templates: &Templates, locale: &str, event: EventType, facts: &Facts) -> [String; 3] {
    let rendered =
        templates.render(Channel::Email, event, Severity::Major, locale, &tokyo(), Uuid::nil(), facts);
    let Rendered::Email { subject, text, html } = rendered.unwrap() else { panic!("is no mail") };
    [subject, text, html]
}

fn sms(templates: &Templates, locale: &str, event: EventType, facts: &Facts) -> String {
    let rendered =
        templates.render(Channel::Sms, event, Severity::Major, locale, &tokyo(), Uuid::nil(), facts);
    let Rendered::Sms { text } = rendered.unwrap() else { panic!("is no SMS") };
    text
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn load(files: &[(&str, &str)]) -> anyhow::Result<Templates> {
    Templates::load(Some(folder(files).path()))
}

#[test]
fn what_is_built_in_can_be_filled_and_fits() {
    check::check(&BUILT_IN).unwrap();
}

#[test]
fn the_reference_result_is_told() {
    let facts = Templates::sample(EventType::Unlocked, None);
    let japanese = sms(&BUILT_IN, "ja-JP", EventType::Unlocked, &facts);
    assert_eq!(japanese, "【錠通知】玄関: 解錠成功 7/12 08:15 電池83%");
    assert_eq!(japanese.chars().count(), 30);
    let english = sms(&BUILT_IN, "en", EventType::Unlocked, &facts);
    assert_eq!(english, "玄関: unlocked 12 Jul 08:15 bat. 83%");
    assert_eq!(sms(&BUILT_IN, "fr", EventType::Unlocked, &facts), english);
    let nameless = Facts { lock_name: "\u{200b}".to_owned(), ..facts };
    assert!(sms(&BUILT_IN, "en", EventType::Unlocked, &nameless).starts_with("…33171: unlocked"));
}

#[test]
fn a_mail_says_what_happened_and_what_to_do() {
    let event = EventType::UNLOCK_FAILED;
    let [subject, text, html] = mail(&BUILT_IN, "ja", event, &Templates::sample(event, None));
    assert_eq!(subject, "【錠通知】玄関: 解錠失敗 7/12 08:15");
    for part in
        ["署名が正しくありません", "2026年7月12日(日) 08:15:00 JST (UTC+09:00)", "10083618796833171", "83.4%"]
    {
        assert!(text.contains(part) && html.contains(part), "{part}: {text}");
    }
    let alarm = EventType::Alarm(AlarmType::DeviceOffline);
    let [subject, text, _] = mail(&BUILT_IN, "en", alarm, &Templates::sample(alarm, Some(Change::Escalated)));
    assert_eq!(subject, "[Major] 玄関: Nobody has reacted: Lock offline, 12 Jul 08:15");
    assert_eq!(
        text,
        "玄関: Nobody has reacted: Lock offline\n\n\
         The lock has stopped reporting. Nobody has taken this on in time, so it is told to more people.\n\n\
         What to do: Check its network and its battery; until it is back, neither commands nor alarms reach anybody.\n\n\
         Time: Sun 12 Jul 2026, 08:15:00 JST (UTC+09:00)\n\
         Lock: 玄関\n\
         Lock's id: 10083618796833171\n\
         First noticed: Sun 12 Jul 2026, 08:10:00 JST (UTC+09:00)\n\
         How often: 3\n\
         Last report: Sun 12 Jul 2026, 08:00:00 JST (UTC+09:00)\n\n\
         -- \n\
         You get this message because you are registered for this lock. Which messages you get is set in your \
         notification settings.\n\
         Message: 00000000-0000-0000-0000-000000000000"
    );
}

#[test]
fn a_digest_counts() {
    let facts = Templates::sample(EventType::Digest, None);
    assert_eq!(
        sms(&BUILT_IN, "ja", EventType::Digest, &facts),
        "【錠通知】玄関: 解錠失敗 7/12 08:15 ほか7件"
    );
    assert_eq!(
        sms(&BUILT_IN, "en", EventType::Digest, &facts),
        "玄関: UNLOCKING FAILED 12 Jul 08:15 +7 more"
    );
    let [subject, text, html] = mail(&BUILT_IN, "ja", EventType::Digest, &facts);
    assert_eq!(subject, "【錠通知】まとめ 8 件（玄関: 解錠失敗 ほか）");
    assert!(text.contains("- 7/12 08:15 玄関: 電池残量低下 [注意]") && text.contains("ほか: 5"), "{text}");
    assert_eq!(html.matches("<li").count(), 4);
}

#[test]
fn a_code_is_in_it_or_it_is_not_sent() {
    let facts = Templates::sample(EventType::Verification, None);
    for locale in ["en", "ja"] {
        assert!(sms(&BUILT_IN, locale, EventType::Verification, &facts).contains("314159"));
        for part in mail(&BUILT_IN, locale, EventType::Verification, &facts) {
            assert!(part.contains("314159"), "{part}");
        }
    }
    let render = |facts| {
        let (event, severity) = (EventType::Verification, Severity::Info);
        BUILT_IN.render(Channel::Sms, event, severity, "en", &tokyo(), Uuid::nil(), facts)
    };
    assert_eq!(render(&Facts::default()), Err("the code is gone".to_owned()));
}

#[test]
fn every_sms_fits_and_still_says_what_and_when() {
    for locale in ["en", "ja"] {
        let zone = tokyo();
        let phrases = BUILT_IN.reader(locale, &zone).phrases;
        for (event, change) in check::cases() {
            for facts in sample::longest(event, change) {
                let text = sms(&BUILT_IN, locale, event, &facts);
                assert_eq!(sms::segments(&text).segments, 1, "{text}");
                assert!(clean::units(&text) <= sms::UNITS_MAX, "{text}");
                if matches!(event, EventType::Verification | EventType::Test) {
                    continue;
                }
                let told = facts.items.iter().max_by_key(|item| item.severity);
                let (event, facts) = told.map_or((event, &facts), |item| (item.event_type, &item.facts));
                let at = payload::timestamp(facts.at_ms).to_zoned(zone.clone());
                let phrase = phrases.event(event.name(), facts.change.map(Change::name)).unwrap();
                assert!(text.contains(&phrase.sms), "{text}");
                assert!(text.contains(&phrases.short_time(&at).unwrap()), "{text}");
                let is_known =
                    facts.client_id.is_empty() || text.contains("…99999") || text.contains("Wide…");
                assert!(is_known || text.contains("玄関") || text.contains("Wide W"), "{text}");
            }
        }
    }
}

#[test]
fn a_page_keeps_to_itself() {
    let page =
        mail(&BUILT_IN, "en", EventType::Unlocked, &Templates::sample(EventType::Unlocked, None))[2].clone();
    for part in
        ["<html lang=\"en\">", "name=\"viewport\"", "prefers-color-scheme: dark", "scope=\"row\"", "<h1"]
    {
        assert!(page.contains(part), "{part}");
    }
    let facts = Facts { lock_name: "https://evil.example/".to_owned(), ..Facts::default() };
    for page in [page, mail(&BUILT_IN, "ja", EventType::Unlocked, &facts)[2].clone()] {
        for part in ["<a ", "href", "src=", "url(", "<img", "<script", "@import", "<link"] {
            assert!(!page.contains(part), "{part}");
        }
    }
}

#[test]
fn a_folder_wins_by_name() {
    let templates = load(&[
        ("ja/phrases.toml", "[event.unlocked]\nsms = \"開\"\n"),
        ("en/unlocked.sms.txt", "Open: {{ lock }}"),
        ("layout.txt", "{{ headline }}!"),
        ("de/phrases.toml", "[event.locked]\nsms = \"verriegelt\"\n"),
        (".hidden", ""),
    ])
    .unwrap();
    let facts = Templates::sample(EventType::Unlocked, None);
    assert_eq!(sms(&templates, "ja", EventType::Unlocked, &facts), "【錠通知】玄関: 開 7/12 08:15 電池83%");
    assert_eq!(sms(&templates, "en", EventType::Unlocked, &facts), "Open: 玄関");
    assert_eq!(mail(&templates, "en", EventType::Unlocked, &facts)[1], "Unlocked!");
    let locked = Templates::sample(EventType::Locked, None);
    assert_eq!(
        sms(&templates, "de-AT", EventType::Locked, &locked),
        "玄関: verriegelt 12 Jul 08:15 bat. 83%"
    );

    let listed = templates.list();
    let file = |event, locale, part| {
        listed
            .iter()
            .find(|one| (one.event_type, one.locale.as_str(), one.part) == (event, locale, part))
            .unwrap()
    };
    assert!(file("unlocked", "en", "sms.txt").overridden);
    assert_eq!(file("locked", "de", "sms.txt").file, "templates/en/result.sms.txt");
    assert!(!file("unlocked", "ja", "body.html").overridden);
    let of =
        |event| listed.iter().filter(|one| (one.event_type, one.locale.as_str()) == (event, "ja")).count();
    assert_eq!((of("unlocked"), of("unlock_failed"), of("tamper")), (4, 8, 4));
}

#[test]
fn a_folder_that_is_wrong_is_refused_with_file_and_line() {
    for (files, expected) in [
        (vec![("ja/unlokced.sms.txt", "x")], "ja/unlokced.sms.txt: unknown file"),
        (vec![("ja/unlocked.sms", "x")], "ja/unlocked.sms: unknown file"),
        (vec![("notes.md", "x")], "notes.md: unknown file"),
        (vec![("english/result.sms.txt", "x")], "english: is no locale"),
        (vec![("result.sms.txt", "x")], "result.sms.txt: is never used"),
        (
            vec![("en/result.sms.txt", "a\n{{ lokc }}")],
            "en/result.sms.txt line 2: undefined value: \"{{ lokc }}\"",
        ),
        (vec![("en/result.sms.txt", "{{ lock")], "en/result.sms.txt line 1: syntax error"),
        (vec![("en/result.sms.txt", "{{ lock | shout }}")], "en/result.sms.txt line 1: "),
        (
            vec![("en/tamper.body.txt", "{% if change == \"raised\" %}x{% endif %}")],
            "en/tamper.body.txt: empty",
        ),
        (vec![("en/test.subject.txt", " \n")], "en/test.subject.txt: empty"),
        (vec![("layout.html", "{{ words.nothing }}")], "layout.html line 1: undefined value"),
        (
            vec![(
                "en/result.sms.txt",
                "{{ lock }} 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890",
            )],
            "does not fit into 70 UTF-16 code units in en",
        ),
        (
            vec![("ja/phrases.toml", "[event.tamper]\nsms = \"\"\nx = \"\"")],
            "ja/phrases.toml line 3: event.tamper.x",
        ),
    ] {
        let error = format!("{:#}", load(&files).unwrap_err());
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    assert!(Templates::load(Some(Path::new("/nonexistent"))).is_err());
}

fn strange() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        "\r\nBcc: x@example.com",
        "<script>",
        "</title>",
        "\"><b>",
        "&amp;",
        "{{ id }}",
        "{% raw %}",
        "\u{202e}",
        "\u{2028}",
        "\u{200b}",
        "e\u{301}",
        "👍\u{1f3fd}",
        "玄関",
        "\0",
        "https://evil.example/",
    ]);
    let part = prop_oneof![nasty.prop_map(str::to_owned), "\\PC{0,20}", any::<String>()];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn anything() -> impl Strategy<Value = (usize, Facts)> {
    let numbers = (any::<i64>(), any::<f32>(), any::<i32>(), any::<Option<i64>>(), any::<usize>());
    (0..1_000_usize, strange(), strange(), strange(), strange(), numbers).prop_map(
        |(case, id, name, key, text, numbers)| {
            let (at_ms, battery, count, error, more) = numbers;
            let cases: Vec<_> = check::cases().collect();
            let (event, change) = cases[case % cases.len()];
            let sample = Templates::sample(event, change);
            let facts = Facts {
                client_id: id,
                lock_name: name,
                at_ms,
                battery: Some(battery),
                count: Some(count),
                error,
                more,
                outcome: sample.outcome.as_ref().map(|_| text.clone()),
                lock_state: Some(key.clone()),
                value: json!({ key.clone(): text, "action": text, "battery": [key, text] }),
                ..sample
            };
            let item = DigestItem {
                event_type: EventType::Locked,
                severity: Severity::Info,
                facts: Facts { items: vec![], ..facts.clone() },
            };
            let is_digest = event == EventType::Digest;
            (case % cases.len(), Facts { items: if is_digest { vec![item; 3] } else { vec![] }, ..facts })
        },
    )
}

fn tags(page: &str) -> usize {
    page.matches('<').count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_a_lock_is_called((case, facts) in anything(), is_japanese in any::<bool>()) {
        let locale = if is_japanese { "ja" } else { "en" };
        let (event, _) = check::cases().nth(case).unwrap();
        let [subject, text, html] = mail(&BUILT_IN, locale, event, &facts);
        prop_assert!(!subject.chars().any(char::is_control) && clean::units(&subject) <= SUBJECT_UNITS_MAX);
        prop_assert!(!text.chars().any(|one| one.is_control() && one != '\n'));

        // The same with harmless texts has as many tags and lines: a stranger's "<" opens none.
        let harmless = |text: &str| clean::clean(text).chars().map(|one| if one == ' ' { ' ' } else { 'x' }).collect::<String>();
        let mut same = facts.clone();
        let calm = |facts: &mut Facts| {
            facts.client_id = harmless(&facts.client_id);
            facts.lock_name = harmless(&facts.lock_name);
            facts.lock_state = facts.lock_state.as_deref().map(harmless);
            facts.outcome = facts.outcome.as_deref().map(harmless);
            if let Value::Object(values) = &mut facts.value {
                *values = values.iter().enumerate().map(|(at, (_, value))| (at.to_string(), match value {
                    Value::String(text) => harmless(text).into(),
                    other => harmless(&other.to_string()).into(),
                })).collect();
            }
        };
        calm(&mut same);
        same.items.iter_mut().for_each(|item| calm(&mut item.facts));
        let [_, plain, page] = mail(&BUILT_IN, locale, event, &same);
        prop_assert_eq!(tags(&html), tags(&page), "{}", html);
        prop_assert_eq!(text.lines().count(), plain.lines().count(), "{}", text);

        let text = sms(&BUILT_IN, locale, event, &facts);
        prop_assert!(clean::units(&text) <= sms::UNITS_MAX && !text.chars().any(char::is_control), "{}", text);
        let body = BUILT_IN.render(Channel::Webhook, event, Severity::Info, locale, &tokyo(), Uuid::nil(), &facts);
        let Ok(Rendered::Webhook { body }) = body else { panic!("is no webhook") };
        prop_assert_eq!(&body["type"], event.name());
    }
}
