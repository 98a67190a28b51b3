//! A provider whose answers take a while, and nothing else.

use std::time::Duration;

use mainstay::session::{
    Code, CodeResult, Command, CommandResult, CreateSession, Deleted, Entry, FileRange, Labels,
    ListSessions, SessionError, SessionErrorKind, SessionId, SessionInfo, SessionPage,
    SessionProvider, SessionStatus, WriteMode, Written,
};

pub(crate) struct Slow(pub(crate) Duration);

fn no<T>() -> Result<T, SessionError> {
    Err(SessionError::new(
        SessionErrorKind::Unsupported,
        "not measured",
    ))
}

impl SessionProvider for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    async fn create(&self, _: &CreateSession) -> Result<SessionInfo, SessionError> {
        self.get(&SessionId::new("s")).await
    }

    async fn get(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        Ok(SessionInfo::new(id.clone(), SessionStatus::Running, "r"))
    }

    async fn status(&self, _: &SessionId) -> Result<SessionStatus, SessionError> {
        tokio::time::sleep(self.0).await;
        Ok(SessionStatus::Running)
    }

    async fn list(&self, _: &ListSessions) -> Result<SessionPage, SessionError> {
        no()
    }

    async fn delete(&self, _: &SessionId) -> Result<Deleted, SessionError> {
        Ok(Deleted::now("r"))
    }

    async fn run(&self, _: &SessionId, _: &Command) -> Result<CommandResult, SessionError> {
        no()
    }

    async fn run_code(&self, _: &SessionId, _: &Code) -> Result<CodeResult, SessionError> {
        no()
    }

    async fn read_file(
        &self,
        _: &SessionId,
        _: &str,
        _: FileRange,
    ) -> Result<Vec<u8>, SessionError> {
        no()
    }

    async fn write_file(
        &self,
        _: &SessionId,
        _: &str,
        _: &[u8],
        _: WriteMode,
    ) -> Result<Written, SessionError> {
        no()
    }

    async fn list_directory(&self, _: &SessionId, _: &str) -> Result<Vec<Entry>, SessionError> {
        no()
    }

    async fn labels(&self, _: &SessionId) -> Result<Labels, SessionError> {
        no()
    }

    async fn set_labels(&self, _: &SessionId, _: &Labels) -> Result<(), SessionError> {
        no()
    }
}
