//! The embedded provider as one of all.

use super::super::error::{SessionError, SessionErrorKind};
use super::super::provider::SessionProvider;
use super::super::types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};
use super::{EmbeddedProvider, fault, run};

/// How many sessions a page has, unless the caller says so; and the most.
const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 1000;
/// What a session's labels may be: so many, each name and value so long.
const MAX_LABELS: usize = 64;
const LONGEST_LABEL: usize = 1024;

fn check_labels(labels: &Labels) -> Result<(), SessionError> {
    let too_long = |text: &String| text.len() > LONGEST_LABEL;
    let wrong = labels
        .iter()
        .any(|(name, value)| too_long(name) || too_long(value));
    if labels.len() <= MAX_LABELS && !wrong {
        return Ok(());
    }
    let text = format!("at most {MAX_LABELS} labels of {LONGEST_LABEL} bytes can be kept");
    Err(SessionError::new(SessionErrorKind::Invalid, text))
}

/// The number after which a page begins.
fn number(next: Option<&str>) -> Result<u64, SessionError> {
    let Some(next) = next.filter(|next| !next.is_empty()) else {
        return Ok(0);
    };
    next.parse().map_err(|_| {
        let text = format!("{next:?} is not where a page begins");
        SessionError::new(SessionErrorKind::Invalid, text)
    })
}

impl SessionProvider for EmbeddedProvider {
    fn name(&self) -> &'static str {
        "embedded"
    }

    /// There is one image, this machine: whatever is asked for is that.
    async fn create(&self, request: &CreateSession) -> Result<SessionInfo, SessionError> {
        check_labels(&request.labels)?;
        let id = self.inner().create(request.labels.clone()).await?;
        Ok(self.info(&id, SessionStatus::Running))
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let status = self.status(id).await?;
        Ok(self.info(id, status))
    }

    async fn status(&self, id: &SessionId) -> Result<SessionStatus, SessionError> {
        let status = self.inner().sessions().status(id);
        status.ok_or_else(|| fault::no_session(id))
    }

    /// In the order in which they were made. 50 a page unless the request says so, at most 1000.
    async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        let after = number(request.next.as_deref())?;
        let size = request.page_size.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
        let page = self
            .inner()
            .sessions()
            .page(&request.labels, size as usize, after);
        let rows = page.rows.into_iter();
        let request_id = self.inner().request();
        Ok(SessionPage {
            sessions: rows
                .map(|(id, status)| SessionInfo::new(id, status, request_id.clone()))
                .collect(),
            next: page.next.map(|number| number.to_string()),
            total: Some(page.total as u64),
            request_id,
        })
    }

    async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        let request = self.inner().request();
        let Some(live) = self.inner().start_delete(id)? else {
            return Ok(Deleted::before(request));
        };
        live.gone().await?;
        Ok(Deleted::now(request))
    }

    async fn run(&self, id: &SessionId, command: &Command) -> Result<CommandResult, SessionError> {
        let visit = self.visit(id)?;
        let job = run::Job::command(command)?;
        let output = visit.execute(job).await?;
        Ok(run::result(self.inner().request(), output))
    }

    async fn run_code(&self, id: &SessionId, code: &Code) -> Result<CodeResult, SessionError> {
        let request = self.inner().request();
        self.visit(id)?.run_code(request, code).await
    }

    async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        let path = path.to_owned();
        let visit = self.visit(id)?;
        visit
            .with_files(move |files| files.read(&path, range))
            .await
    }

    async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> Result<Written, SessionError> {
        let visit = self.visit(id)?;
        visit.files().check_size(path, content)?;
        let (path, content) = (path.to_owned(), content.to_vec());
        let work = visit.with_files(move |files| files.write(&path, &content, mode));
        Ok(Written::new(work.await?, self.inner().request()))
    }

    async fn list_directory(&self, id: &SessionId, path: &str) -> Result<Vec<Entry>, SessionError> {
        let path = path.to_owned();
        let visit = self.visit(id)?;
        visit.with_files(move |files| files.list(&path)).await
    }

    async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        let labels = self.inner().sessions().labels(id);
        labels.ok_or_else(|| fault::no_session(id))
    }

    async fn set_labels(&self, id: &SessionId, labels: &Labels) -> Result<(), SessionError> {
        check_labels(labels)?;
        let set = self.inner().sessions().set_labels(id, labels.clone());
        set.then_some(()).ok_or_else(|| fault::no_session(id))
    }
}

impl EmbeddedProvider {
    fn info(&self, id: &SessionId, status: SessionStatus) -> SessionInfo {
        SessionInfo::new(id.clone(), status, self.inner().request())
    }
}
