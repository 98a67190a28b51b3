//! What every provider offers. Here no secret gets any further: see [`Inner::clean`].

use super::super::error::SessionError;
use super::super::provider::SessionProvider;
use super::super::types::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionId, SessionInfo, SessionPage, SessionStatus, WriteMode, Written,
};
use super::AgentBay;

impl SessionProvider for AgentBay {
    fn name(&self) -> &'static str {
        "agentbay"
    }

    async fn create(&self, request: &CreateSession) -> Result<SessionInfo, SessionError> {
        self.inner.clean(self.inner.create(request).await)
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        self.inner.clean(self.inner.get(id).await)
    }

    async fn status(&self, id: &SessionId) -> Result<SessionStatus, SessionError> {
        self.inner.clean(
            self.inner
                .status(id, self.inner.settings.request_limit)
                .await,
        )
    }

    async fn list(&self, request: &ListSessions) -> Result<SessionPage, SessionError> {
        self.inner.clean(self.inner.list(request).await)
    }

    async fn delete(&self, id: &SessionId) -> Result<Deleted, SessionError> {
        self.inner.clean(self.inner.delete(id).await)
    }

    async fn run(&self, id: &SessionId, command: &Command) -> Result<CommandResult, SessionError> {
        self.inner.clean(self.inner.run(id, command).await)
    }

    async fn run_code(&self, id: &SessionId, code: &Code) -> Result<CodeResult, SessionError> {
        self.inner.clean(self.inner.run_code(id, code).await)
    }

    async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        self.inner
            .clean(self.inner.read_file(id, path, range).await)
    }

    async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        content: &[u8],
        mode: WriteMode,
    ) -> Result<Written, SessionError> {
        self.inner
            .clean(self.inner.write_file(id, path, content, mode).await)
    }

    async fn list_directory(&self, id: &SessionId, path: &str) -> Result<Vec<Entry>, SessionError> {
        self.inner.clean(self.inner.list_directory(id, path).await)
    }

    async fn labels(&self, id: &SessionId) -> Result<Labels, SessionError> {
        self.inner.clean(self.inner.labels(id).await)
    }

    async fn set_labels(&self, id: &SessionId, labels: &Labels) -> Result<(), SessionError> {
        self.inner.clean(self.inner.set_labels(id, labels).await)
    }
}
