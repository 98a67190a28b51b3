//! What the server knows of its sessions beside the provider: their tokens, images and states.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A session's state as the wire calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Pausing,
    Paused,
    Resuming,
    Deleting,
}

impl Status {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Pausing => "PAUSING",
            Self::Paused => "PAUSED",
            Self::Resuming => "RESUMING",
            Self::Deleting => "DELETING",
        }
    }
}

/// What is known of a session.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) token: String,
    pub(crate) image: String,
    status: Status,
    since: Instant,
}

/// Why a session does not change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Gone,
    Is(Status),
}

/// All sessions. A pause and its end take `transition`, which is found out when somebody asks.
#[derive(Debug)]
pub(crate) struct Book {
    records: BTreeMap<String, Record>,
    transition: Duration,
}

impl Book {
    pub(crate) fn new(transition: Duration) -> Self {
        Self {
            records: BTreeMap::new(),
            transition,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn enter(&mut self, id: &str, token: String, image: String, now: Instant) {
        let record = Record {
            token,
            image,
            status: Status::Running,
            since: now,
        };
        self.records.insert(id.to_owned(), record);
    }

    /// A session and its state at this moment.
    pub(crate) fn find(&self, id: &str, now: Instant) -> Option<(Record, Status)> {
        let record = self.records.get(id)?;
        let settled = now.saturating_duration_since(record.since) >= self.transition;
        let status = match record.status {
            Status::Pausing if settled => Status::Paused,
            Status::Resuming if settled => Status::Running,
            status => status,
        };
        Some((record.clone(), status))
    }

    pub(crate) fn pause(&mut self, id: &str, now: Instant) -> Result<(), Refused> {
        self.change(id, now, Status::Running, Status::Pausing)
    }

    pub(crate) fn resume(&mut self, id: &str, now: Instant) -> Result<(), Refused> {
        self.change(id, now, Status::Paused, Status::Resuming)
    }

    fn change(&mut self, id: &str, now: Instant, from: Status, to: Status) -> Result<(), Refused> {
        let (_, status) = self.find(id, now).ok_or(Refused::Gone)?;
        if status != from {
            return Err(Refused::Is(status));
        }
        self.set(id, to, now);
        Ok(())
    }

    /// Begins to delete; false where somebody else has begun.
    pub(crate) fn delete(&mut self, id: &str, now: Instant) -> Result<bool, Refused> {
        let (_, status) = self.find(id, now).ok_or(Refused::Gone)?;
        self.set(id, Status::Deleting, now);
        Ok(status != Status::Deleting)
    }

    /// It could not be deleted: it is there, and somebody may ask again.
    pub(crate) fn keep(&mut self, id: &str, now: Instant) {
        self.set(id, Status::Running, now);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.records.remove(id);
    }

    fn set(&mut self, id: &str, status: Status, now: Instant) {
        if let Some(record) = self.records.get_mut(id) {
            record.status = status;
            record.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn book(now: Instant) -> Book {
        let mut book = Book::new(10 * MS);
        book.enter("s-1", "token".into(), "code_latest".into(), now);
        book
    }

    #[test]
    fn a_pause_is_under_way_and_then_there() {
        let now = Instant::now();
        let mut book = book(now);
        let status = |book: &Book, at| book.find("s-1", at).map(|(_, status)| status);
        assert_eq!(status(&book, now), Some(Status::Running));
        assert_eq!(book.pause("s-1", now), Ok(()));
        assert_eq!(status(&book, now + 9 * MS), Some(Status::Pausing));
        assert_eq!(
            book.resume("s-1", now + 9 * MS),
            Err(Refused::Is(Status::Pausing))
        );
        assert_eq!(status(&book, now + 10 * MS), Some(Status::Paused));
        assert_eq!(book.resume("s-1", now + 10 * MS), Ok(()));
        assert_eq!(status(&book, now + 19 * MS), Some(Status::Resuming));
        assert_eq!(status(&book, now + 20 * MS), Some(Status::Running));
    }

    #[test]
    fn a_session_is_deleted_by_the_first_who_asks() {
        let now = Instant::now();
        let mut book = book(now);
        assert_eq!(book.delete("s-1", now), Ok(true));
        assert_eq!(book.delete("s-1", now), Ok(false));
        assert_eq!(book.pause("s-1", now), Err(Refused::Is(Status::Deleting)));
        book.keep("s-1", now);
        assert_eq!(book.delete("s-1", now), Ok(true));
        book.remove("s-1");
        assert_eq!(book.delete("s-1", now), Err(Refused::Gone));
        assert_eq!(book.len(), 0);
    }
}
