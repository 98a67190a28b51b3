//! Requests as they come and replies as they go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::faults::{Kind, Rule};

pub(crate) const VERSION: &str = "2025-05-06";

/// The connection is to be closed without a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

/// A failure of one of the first two layers.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// `None`: status 200, and `Success` is false.
    status: Option<StatusCode>,
    code: String,
    message: String,
}

impl Failure {
    /// The first layer: an HTTP status.
    pub(crate) fn http(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// The second layer: status 200 that says no.
    pub(crate) fn said(code: &str, message: impl Into<String>) -> Self {
        Self {
            status: None,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn parameter(name: &str, wanted: &str) -> Self {
        let message = format!("The specified parameter {name} is not valid: {wanted}.");
        Self::http(StatusCode::BAD_REQUEST, "InvalidParameter", message)
    }

    pub(crate) fn missing(name: &str) -> Self {
        let message = format!("{name} is mandatory for this action.");
        Self::http(StatusCode::BAD_REQUEST, "MissingParameter", message)
    }

    pub(crate) fn no_session(id: &str) -> Self {
        let message = format!("The specified session {id} is not found.");
        let code = "InvalidMcpSession.NotFound";
        Self::http(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn no_action(name: &str) -> Self {
        let message = format!("The specified action {} is not found.", shortened(name));
        Self::http(StatusCode::NOT_FOUND, "InvalidAction.NotFound", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::http(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn page(&self, request_id: &str) -> Page {
        let Some(status) = self.status else {
            let body = json!({
                "RequestId": request_id, "HttpStatusCode": 200, "Code": self.code,
                "Success": false, "Message": self.message,
            });
            return Page::json(StatusCode::OK, &body);
        };
        let body = json!({ "RequestId": request_id, "Code": self.code, "Message": self.message });
        Page::json(status, &body)
    }
}

/// What a caller sent is not sent back in full.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A good reply: `Data`, and what stands beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Good {
    pub(crate) code: &'static str,
    pub(crate) data: Option<Value>,
    pub(crate) beside: Map<String, Value>,
}

impl Good {
    pub(crate) fn nothing() -> Self {
        Self {
            code: "ok",
            ..Self::default()
        }
    }

    pub(crate) fn data(data: Value) -> Self {
        Self {
            data: Some(data),
            ..Self::nothing()
        }
    }

    /// The service is not of one mind about the code of a good reply.
    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn beside(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.beside.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn page(self, request_id: &str) -> Page {
        let mut body = self.beside;
        body.insert("RequestId".to_owned(), request_id.into());
        body.insert("HttpStatusCode".to_owned(), 200.into());
        body.insert("Code".to_owned(), self.code.into());
        body.insert("Success".to_owned(), true.into());
        body.insert("Message".to_owned(), "".into());
        if let Some(data) = self.data {
            body.insert("Data".to_owned(), data);
        }
        Page::json(StatusCode::OK, &Value::Object(body))
    }
}

/// A reply before anything went wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    status: StatusCode,
    kind: &'static str,
    retry_after: Option<Duration>,
    body: String,
}

impl Page {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status,
            kind: "application/json; charset=utf-8",
            retry_after: None,
            body: body.to_string(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(span) = self.retry_after {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            headers.insert("x-acs-retry-after", HeaderValue::from(ms));
        }
        response
    }
}

/// What is replied in place of doing anything, if that is how it goes wrong.
pub(crate) fn instead(rule: &Rule, action: &str, request_id: &str) -> Option<Response<Body>> {
    match rule.kind {
        Kind::Throttle => Some(throttled(rule, request_id).into_response()),
        Kind::Unavailable => Some(unavailable().into_response()),
        Kind::Refuse => Some(refused(action, request_id).into_response()),
        Kind::LostRequest => Some(lost()),
        _ => None,
    }
}

fn throttled(rule: &Rule, request_id: &str) -> Page {
    let message = "Request was denied due to user flow control.";
    let status = StatusCode::from_u16(rule.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let failure = Failure::http(status, "Throttling.User", message);
    Page {
        retry_after: Some(Duration::from_millis(rule.retry_after_ms)),
        ..failure.page(request_id)
    }
}

fn unavailable() -> Page {
    Page {
        status: StatusCode::SERVICE_UNAVAILABLE,
        kind: "text/html; charset=utf-8",
        retry_after: None,
        body: "<html>\n<head><title>503 Service Temporarily Unavailable</title></head>\n<body>\n\
               <center><h1>503 Service Temporarily Unavailable</h1></center>\n</body>\n</html>\n"
            .to_owned(),
    }
}

/// A creation says no in its data, all others beside it.
fn refused(action: &str, request_id: &str) -> Page {
    let message = "The system is busy. Please try again later.";
    if action == "CreateMcpSession" {
        return not_created(message).page(request_id);
    }
    Failure::said("SystemBusy", message).page(request_id)
}

pub(crate) fn not_created(message: &str) -> Good {
    Good::data(json!({ "Success": false, "ErrMsg": message }))
}

/// No reply.
pub(crate) fn lost() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Lost);
    response
}

/// What becomes of a reply.
pub(crate) async fn afterwards(rule: Option<&Rule>, page: Page) -> Response<Body> {
    match rule.map(|rule| rule.kind) {
        Some(Kind::LostReply) => lost(),
        Some(Kind::TruncatedReply) => truncated(page).into_response(),
        Some(Kind::CutReply) => cut(page),
        Some(Kind::SlowReply) => {
            tokio::time::sleep(rule.map(Rule::delay).unwrap_or_default()).await;
            page.into_response()
        }
        _ => page.into_response(),
    }
}

fn half(body: &str) -> usize {
    (0..=body.len() / 2)
        .rev()
        .find(|at| body.is_char_boundary(*at))
        .unwrap_or(0)
}

fn truncated(mut page: Page) -> Page {
    page.body.truncate(half(&page.body));
    page
}

/// Promises the whole, gives a half, and breaks.
fn cut(page: Page) -> Response<Body> {
    let whole = page.body.len();
    let first = Bytes::from(page.body[..half(&page.body)].to_owned());
    let mut response = page.into_response();
    *response.body_mut() = Body::from_stream(broken(first));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
    response
}

/// The pause lets what was written before leave the machine.
fn broken(first: Bytes) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    use futures_util::{StreamExt as _, stream};
    stream::once(async move { Ok(first) }).chain(stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    }))
}

type Fields = BTreeMap<String, String>;

/// A request whose form was understood.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request_id: String,
    query: Fields,
    form: Fields,
}

impl Call {
    /// Reads a request; one that takes too long is a failure like any other.
    pub(crate) async fn read(
        request_id: &str,
        request: Request,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let query = Query::<Fields>::try_from_uri(request.uri())
            .map_err(|rejection| malformed(rejection.body_text()))?;
        let form = tokio::time::timeout(limit, Form::<Fields>::from_request(request, &())).await;
        let form = form.map_err(|_| {
            let message = "The request was not sent in time.";
            Failure::http(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
        })?;
        let form = form.map_err(|rejection| bad_form(&rejection))?;
        Ok(Self {
            request_id: request_id.to_owned(),
            query: query.0,
            form: form.0,
        })
    }

    /// What every request must carry.
    pub(crate) fn check_common(&self) -> Result<(), Failure> {
        for name in ["Timestamp", "SignatureNonce"] {
            if self.query.get(name).is_none_or(String::is_empty) {
                return Err(Failure::missing(name));
            }
        }
        match self.query.get("Version").map(String::as_str) {
            Some(VERSION) => Ok(()),
            Some(_) => Err(Failure::parameter("Version", VERSION)),
            None => Err(Failure::missing("Version")),
        }
    }

    pub(crate) fn action(&self) -> Result<&str, Failure> {
        self.query
            .get("Action")
            .map(String::as_str)
            .filter(|action| !action.is_empty())
            .ok_or_else(|| Failure::missing("Action"))
    }

    /// A field of the form, or else of the query.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.form.get(name).or_else(|| self.query.get(name));
        field.map(String::as_str)
    }

    pub(crate) fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.field(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Failure::missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, Failure> {
        let wrong = |_| Failure::parameter(name, "a number");
        self.field(name).map(str::parse).transpose().map_err(wrong)
    }

    /// Either case is taken.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.field(name) {
            None | Some("") => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(Failure::parameter(name, "True or False")),
        }
    }

    /// Names and values in JSON; none where the field is missing.
    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        let Some(text) = self.field("Labels").filter(|text| !text.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_str(text)
            .map_err(|_| Failure::parameter("Labels", "an object of strings in JSON"))
    }
}

fn malformed(message: String) -> Failure {
    Failure::http(StatusCode::BAD_REQUEST, "MalformedRequest", message)
}

fn bad_form(rejection: &FormRejection) -> Failure {
    let status = rejection.status();
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        _ => "MalformedRequest",
    };
    Failure::http(status, code, rejection.body_text())
}

/// A request id as the service writes it.
pub(crate) fn new_request_id() -> String {
    let id = fastrand::u128(..);
    let hex = format!("{id:032X}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// So many random bytes in hexadecimal.
pub(crate) fn random_hex(bytes: usize) -> String {
    (0..bytes).fold(String::new(), |mut text, _| {
        let _ = write!(text, "{:02x}", fastrand::u8(..));
        text
    })
}
