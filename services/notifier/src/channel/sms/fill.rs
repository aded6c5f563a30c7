//! Filling in: what is sent to a gateway, made of its templates and a message.
//!
//! Invariant: only texts are templates. Names and structure come from the configuration, and values are
//! encoded after they were filled in, so that none can add a field, a header or a recipient.

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::Value as Filling;
use minijinja::{Environment, UndefinedBehavior};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json};
use toml::Value;

use super::gateway_settings::{Auth, Encode, GatewaySettings, Method};

/// What needs no encoding in a segment of a path (RFC 3986: unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) method: reqwest::Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
}

/// What differs from message to message.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub(super) to: &'a str,
    pub(super) text: &'a str,
    pub(super) id: &'a str,
    pub(super) ucs2: bool,
    pub(super) report_url: &'a str,
}

/// The templates of a gateway.
pub(super) struct Templates {
    environment: Environment<'static>,
    method: reqwest::Method,
    url: Url,
    encode: Encode,
    params: Vec<(String, Param)>,
    headers: Vec<(HeaderName, String)>,
    fixed_headers: HeaderMap,
    from: String,
    setting: Filling,
    secret: Filling,
}

/// Something that is sent.
enum Param {
    Template(String),
    Fixed(Json),
    List(Vec<Param>),
    Table(Vec<(String, Param)>),
}

impl Templates {
    /// Fills in what does not depend on a message, and tries the rest.
    pub(super) fn new(gateway: &GatewaySettings, secret: Filling) -> anyhow::Result<Self> {
        let shown = gateway.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let setting = Filling::from_pairs(shown);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let url = url(&gateway.url, &setting, &secret).context("url")?;
        let method = match gateway.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        if gateway.method == Method::Get && gateway.encode != Encode::Query {
            bail!("encode: a GET has no body, so it must be query");
        }
        let params = table(&gateway.params).context("params")?;
        let is_flat = params.iter().all(|(_, param)| matches!(param, Param::Template(_) | Param::Fixed(_)));
        ensure!(is_flat || gateway.encode == Encode::Json, "params: must be flat unless encode is json");
        let header = |(name, value): (&String, &String)| {
            let parsed = name.parse::<HeaderName>().map_err(|_| anyhow!("headers: {name} is no name"))?;
            anyhow::Ok((parsed, value.clone()))
        };
        let mut templates = Self {
            method,
            url,
            encode: gateway.encode,
            params,
            headers: gateway.headers.iter().map(header).collect::<Result<_, _>>()?,
            fixed_headers: HeaderMap::new(),
            from: gateway.from.clone(),
            setting,
            secret,
            environment,
        };
        templates.fixed_headers = templates.fixed_headers(&gateway.auth).context("auth")?;
        let (to, text) = ("+819012341234", "text");
        for report_url in ["", "https://example.com/"] {
            templates.fill(&Values { to, text, id: "id", ucs2: false, report_url })?;
        }
        Ok(templates)
    }

    fn fixed_headers(&self, auth: &Auth) -> anyhow::Result<HeaderMap> {
        let context = minijinja::context! { setting => self.setting.clone(), secret => self.secret.clone() };
        let fill = |template: &str| self.render(template, &context);
        let mut headers = HeaderMap::new();
        let shown = match auth {
            Auth::None => None,
            Auth::Basic { user, password } => {
                let user = fill(user)?;
                ensure!(!user.contains(':'), "user: must not hold a colon");
                let pair = format!("{user}:{}", fill(password)?);
                Some((AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(pair))))
            }
            Auth::Bearer { token } => Some((AUTHORIZATION, format!("Bearer {}", fill(token)?))),
            Auth::Header { name, value } => {
                Some((name.parse().map_err(|_| anyhow!("name: is none"))?, fill(value)?))
            }
        };
        if let Some((name, value)) = shown {
            let mut value = header_value(&value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        match self.encode {
            Encode::Query => None,
            Encode::Form => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            }
            Encode::Json => headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json")),
        };
        Ok(headers)
    }

    /// The request of a message.
    pub(super) fn fill(&self, values: &Values<'_>) -> anyhow::Result<Filled> {
        let Values { to, text, id, ucs2, report_url } = *values;
        let (from, setting, secret) = (self.from.as_str(), self.setting.clone(), self.secret.clone());
        let context = minijinja::context! { to, text, from, id, ucs2, report_url, setting, secret };
        let params = self.fields(&self.params, &context).context("params")?;
        let mut url = self.url.clone();
        let body = match self.encode {
            Encode::Query => {
                append(&mut url, &params);
                None
            }
            Encode::Form => {
                let mut form = Url::parse("http://localhost/").context("form")?;
                append(&mut form, &params);
                Some(form.query().unwrap_or_default().to_owned())
            }
            Encode::Json => Some(Json::Object(params).to_string()),
        };
        let mut headers = self.fixed_headers.clone();
        for (name, template) in &self.headers {
            let value = self.render(template, &context).and_then(|value| header_value(&value));
            headers.insert(name.clone(), value.with_context(|| format!("headers: {name}"))?);
        }
        Ok(Filled { method: self.method.clone(), url, headers, body })
    }

    /// Fields without those that are empty.
    fn fields(&self, params: &[(String, Param)], context: &Filling) -> anyhow::Result<Map<String, Json>> {
        let mut fields = Map::new();
        for (name, param) in params {
            if let Some(value) = self.value(param, context).with_context(|| name.clone())? {
                fields.insert(name.clone(), value);
            }
        }
        Ok(fields)
    }

    fn value(&self, param: &Param, context: &Filling) -> anyhow::Result<Option<Json>> {
        Ok(match param {
            Param::Template(template) => {
                let text = self.render(template, context)?;
                (!text.is_empty()).then_some(Json::String(text))
            }
            Param::Fixed(value) => Some(value.clone()),
            Param::List(params) => {
                let values = params.iter().filter_map(|param| self.value(param, context).transpose());
                Some(Json::Array(values.collect::<anyhow::Result<_>>()?))
            }
            Param::Table(params) => Some(Json::Object(self.fields(params, context)?)),
        })
    }

    /// The error names what is wrong with the template, never a value.
    fn render(&self, template: &str, context: &Filling) -> anyhow::Result<String> {
        self.environment
            .render_str(template, context)
            .map_err(|error| anyhow!("cannot be filled in: {}", error.kind()))
    }
}

/// The gateway's address: each value is one piece of a path, whatever it holds.
fn url(template: &str, setting: &Filling, secret: &Filling) -> anyhow::Result<Url> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| {
        let text = value.to_string();
        out.write_str(&utf8_percent_encode(&text, SEGMENT).to_string()).map_err(Into::into)
    });
    let filled = environment
        .render_str(template, minijinja::context! { setting, secret })
        .map_err(|error| anyhow!("cannot be filled in with settings and secrets: {}", error.kind()))?;
    // What is wrong is not quoted: it may hold a secret.
    let url = Url::parse(&filled).map_err(|_| anyhow!("is no URL"))?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "must be http:// or https://");
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "must not hold a user or a password: set auth"
    );
    Ok(url)
}

fn table(table: &toml::Table) -> anyhow::Result<Vec<(String, Param)>> {
    let param = |(name, value): (&String, &Value)| {
        Ok((name.clone(), self::param(value).with_context(|| name.clone())?))
    };
    table.iter().map(param).collect()
}

fn param(value: &Value) -> anyhow::Result<Param> {
    Ok(match value {
        Value::String(template) => Param::Template(template.clone()),
        Value::Integer(number) => Param::Fixed((*number).into()),
        Value::Float(number) => Param::Fixed((*number).into()),
        Value::Boolean(is_so) => Param::Fixed((*is_so).into()),
        Value::Datetime(time) => Param::Template(time.to_string()),
        Value::Array(values) => Param::List(values.iter().map(param).collect::<Result<_, _>>()?),
        Value::Table(inner) => Param::Table(table(inner)?),
    })
}

fn append(url: &mut Url, params: &Map<String, Json>) {
    let mut pairs = url.query_pairs_mut();
    for (name, value) in params {
        match value {
            Json::String(text) => pairs.append_pair(name, text),
            other => pairs.append_pair(name, &other.to_string()),
        };
    }
}

fn header_value(value: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| anyhow!("cannot stand in a header"))
}
