//! The actions on sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use mainstay::session::{
    CreateSession, ListSessions, SessionError, SessionErrorKind, SessionId, SessionInfo,
    SessionProvider as _,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::book::{Record, Refused, Status};
use super::server::Server;
use super::tools;
use super::wire::{Call, Failure, Good, not_created, random_hex};

macro_rules! actions {
    ($($name:ident),* $(,)?) => {
        /// What can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Action { $($name),* }

        impl Action {
            pub(crate) fn find(name: &str) -> Result<Self, Failure> {
                match name {
                    $(stringify!($name) => Ok(Self::$name),)*
                    _ => Err(Failure::no_action(name)),
                }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

actions! {
    CallMcpTool, CreateMcpSession, DeleteSessionAsync, GetLabel, GetLink, GetMcpResource,
    GetSession, GetSessionDetail, ListMcpTools, ListSession, PauseSessionAsync,
    RefreshSessionIdleTime, ReleaseMcpSession, ResumeSessionAsync, SetLabel,
}

type Done = Result<Good, Failure>;

impl Action {
    /// Does it. The key is checked first, as at the service.
    pub(crate) async fn run(
        self,
        server: &Arc<Server>,
        call: &Call,
        delete_delay: Option<Duration>,
    ) -> Done {
        call.check_common()?;
        server.check_key(call.field("Authorization"))?;
        match self {
            Self::CallMcpTool => tools::call(server, call).await,
            Self::CreateMcpSession => create(server, call).await,
            Self::DeleteSessionAsync => delete(server, call, delete_delay),
            Self::ReleaseMcpSession => release(server, call, delete_delay).await,
            Self::GetSession => get(server, call).await,
            Self::GetSessionDetail => detail(server, call),
            Self::GetMcpResource => resource(server, call),
            Self::GetLink => link(server, call),
            Self::GetLabel => labels(server, call).await,
            Self::SetLabel => set_labels(server, call).await,
            Self::ListSession => list(server, call).await,
            Self::ListMcpTools => Ok(Good::data(tools::list().into())),
            Self::PauseSessionAsync => pause(server, call),
            Self::ResumeSessionAsync => resume(server, call),
            Self::RefreshSessionIdleTime => refresh(server, call),
        }
    }
}

/// What the provider did not do, in the words of the service.
pub(crate) fn failed(error: &SessionError) -> Failure {
    let message = error.message();
    match error.kind() {
        SessionErrorKind::NotFound => Failure::http(
            StatusCode::BAD_REQUEST,
            "InvalidMcpSession.NotFound",
            message,
        ),
        SessionErrorKind::Invalid => {
            Failure::http(StatusCode::BAD_REQUEST, "InvalidParameter", message)
        }
        SessionErrorKind::Unavailable => Failure::http(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        ),
        SessionErrorKind::Unsupported => Failure::said("Unsupported", message),
        _ => Failure::internal(message),
    }
}

async fn create(server: &Server, call: &Call) -> Done {
    let mut request = CreateSession::new();
    request.labels = call.labels()?;
    let image = call.field("ImageId").unwrap_or("linux_latest");
    request.image = Some(image.to_owned());
    call.boolean("VpcResource")?;
    if server.book().len() >= server.config.max_sessions {
        return Ok(not_created("The number of sessions has reached its limit."));
    }
    let info = match server.provider.create(&request).await {
        Ok(info) => info,
        Err(error) if has_no_room(&error) => return Ok(not_created(error.message())),
        Err(error) => return Err(failed(&error)),
    };
    let (id, token) = (info.id.as_str(), random_hex(16));
    server
        .book()
        .enter(id, token, image.to_owned(), Instant::now());
    let (record, status) = server.find(id)?;
    let mut data = session(server, &info, &record, status);
    data["ErrMsg"] = "".into();
    Ok(Good::data(data))
}

fn has_no_room(error: &SessionError) -> bool {
    use SessionErrorKind::{Throttled, Unavailable};
    matches!(error.kind(), Throttled | Unavailable)
}

/// What a creation and a look at a session tell.
fn session(server: &Server, info: &SessionInfo, record: &Record, status: Status) -> Value {
    let id = info.id.as_str();
    let local = || format!("{}/resource/{id}", server.base);
    let mut data = json!({
        "Success": true,
        "SessionId": id,
        "Status": status.text(),
        "ResourceUrl": info.resource_url.clone().unwrap_or_else(local),
        "AppInstanceId": format!("ai-{id}"),
        "ResourceId": format!("r-{id}"),
        "HttpPort": "",
        "NetworkInterfaceIp": "",
        "VpcResource": false,
        "ToolList": tools::list(),
    });
    if server.config.links {
        data["LinkUrl"] = format!("{}/link/{id}", server.base).into();
        data["Token"] = record.token.clone().into();
    }
    data
}

async fn get(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    let (record, status) = server.find(id)?;
    let info = server.provider.get(&SessionId::new(id)).await;
    let info = info.map_err(|e| failed(&e))?;
    Ok(Good::data(session(server, &info, &record, status)))
}

fn detail(server: &Server, call: &Call) -> Done {
    let (record, status) = server.find(call.needed("SessionId")?)?;
    Ok(Good::data(json!({
        "Status": status.text(),
        "ImageId": record.image,
        "RegionId": server.config.region,
        "EndReason": "",
        "IsDeleted": 0,
    })))
}

fn resource(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    server.find(id)?;
    Ok(Good::data(json!({
        "SessionId": id,
        "ResourceUrl": format!("{}/resource/{id}", server.base),
        "DesktopInfo": {
            "AppId": "local",
            "AuthCode": "",
            "ConnectionProperties": "{}",
            "ResourceId": format!("r-{id}"),
            "ResourceType": "AIAgent",
            "Ticket": "",
        },
    })))
}

fn link(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    server.find(id)?;
    let port = call.number("Port")?;
    if port.is_some_and(|port| !(30_100..=30_199).contains(&port)) {
        return Err(Failure::parameter("Port", "30100 to 30199"));
    }
    let host = server.base.strip_prefix("http://").unwrap_or(&server.base);
    let scheme = call.field("ProtocolType").unwrap_or("https");
    let port = port.map_or(String::new(), |port| format!("/{port}"));
    Ok(Good::data(
        json!({ "Url": format!("{scheme}://{host}/port/{id}{port}") }),
    ))
}

fn refresh(server: &Server, call: &Call) -> Done {
    server.find(call.needed("SessionId")?)?;
    Ok(Good::nothing())
}

async fn labels(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    server.find(id)?;
    let labels = server.provider.labels(&SessionId::new(id)).await;
    let labels = labels.map_err(|e| failed(&e))?;
    Ok(Good::data(json!({ "Labels": text_of(&labels) })))
}

fn text_of(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).unwrap_or_default()
}

async fn set_labels(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    call.needed("Labels")?;
    let labels = call.labels()?;
    server.find(id)?;
    let set = server
        .provider
        .set_labels(&SessionId::new(id), &labels)
        .await;
    set.map_err(|e| failed(&e))?;
    Ok(Good::nothing())
}

fn refused(id: &str, refused: Refused) -> Failure {
    match refused {
        Refused::Gone => Failure::no_session(id),
        Refused::Is(status) => {
            let message = format!("The specified session is {}.", status.text());
            Failure::said("InvalidMcpSession.Status", message)
        }
    }
}

fn pause(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    let paused = server.book().pause(id, Instant::now());
    paused.map_err(|why| refused(id, why))?;
    Ok(Good::nothing())
}

fn resume(server: &Server, call: &Call) -> Done {
    let id = call.needed("SessionId")?;
    let resumed = server.book().resume(id, Instant::now());
    resumed.map_err(|why| refused(id, why))?;
    Ok(Good::nothing())
}

/// Begins a deletion; the reply does not wait for it.
fn delete(server: &Arc<Server>, call: &Call, delay: Option<Duration>) -> Done {
    let id = call.needed("SessionId")?.to_owned();
    let first = server.book().delete(&id, Instant::now());
    if first.map_err(|why| refused(&id, why))? {
        let shared = Arc::clone(server);
        let gone = async move { delete_now(&shared, &id, delay).await };
        if server.work.spawn("deletion", gone).is_err() {
            return Err(Failure::internal("The server is about to end."));
        }
    }
    Ok(Good::nothing().code("Success"))
}

/// The older way: the reply comes when the session is gone.
async fn release(server: &Server, call: &Call, delay: Option<Duration>) -> Done {
    let id = call.needed("SessionId")?;
    let first = server.book().delete(id, Instant::now());
    if first.map_err(|why| refused(id, why))? {
        delete_now(server, id, delay)
            .await
            .map_err(|e| failed(&e))?;
    }
    Ok(Good::nothing().code("Success"))
}

async fn delete_now(
    server: &Server,
    id: &str,
    delay: Option<Duration>,
) -> Result<(), SessionError> {
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let deleted = server.provider.delete(&SessionId::new(id)).await;
    let mut book = server.book();
    match deleted {
        Ok(_) => book.remove(id),
        Err(error) => {
            book.keep(id, Instant::now());
            return Err(error);
        }
    }
    Ok(())
}

const PAGE: u32 = 10;
const LARGEST_PAGE: u32 = 100;

async fn list(server: &Server, call: &Call) -> Done {
    let size = call.number("MaxResults")?.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&size) {
        return Err(Failure::parameter("MaxResults", "1 to 100"));
    }
    let mut request = ListSessions::with_labels(call.labels()?);
    request.next = call
        .field("NextToken")
        .filter(|next| !next.is_empty())
        .map(str::to_owned);
    let wanted = (call.field("Status"), call.field("ImageId"));
    let (sessions, next) = one_page(server, request, size, wanted).await?;
    let total = total(server, call, wanted).await?;
    let good = Good::data(sessions.into())
        .beside("NextToken", next.unwrap_or_default())
        .beside("MaxResults", size)
        .beside("TotalCount", total);
    Ok(good)
}

type Wanted<'a> = (Option<&'a str>, Option<&'a str>);

/// Goes on through the provider's pages until one of ours is full.
async fn one_page(
    server: &Server,
    mut request: ListSessions,
    size: u32,
    wanted: Wanted<'_>,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let mut found = Vec::new();
    loop {
        let missing = size.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if missing == 0 {
            return Ok((found, request.next));
        }
        request = request.page_size(missing.min(LARGEST_PAGE));
        let page = server
            .provider
            .list(&request)
            .await
            .map_err(|e| failed(&e))?;
        let sessions = page.sessions.iter();
        found.extend(sessions.filter_map(|info| listed(server, info, wanted)));
        request.next = page.next;
        if request.next.is_none() {
            return Ok((found, None));
        }
    }
}

/// A session as it stands in a list, if it is one that is wanted.
fn listed(server: &Server, info: &SessionInfo, (status, image): Wanted<'_>) -> Option<Value> {
    let id = info.id.as_str();
    let (record, is) = server.find(id).ok()?;
    let fits = status.is_none_or(|status| status == is.text())
        && image.is_none_or(|image| image == record.image);
    fits.then(|| {
        json!({
            "SessionId": id,
            "SessionStatus": is.text(),
            "ImageId": record.image,
            "AppInstanceId": format!("ai-{id}"),
        })
    })
}

async fn total(server: &Server, call: &Call, wanted: Wanted<'_>) -> Result<usize, Failure> {
    let all = ListSessions::with_labels(call.labels()?);
    Ok(one_page(server, all, u32::MAX, wanted).await?.0.len())
}
