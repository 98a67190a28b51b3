//! Sections that a shutdown waits for.

use std::sync::Arc;

use super::pace;
use crate::error::Refusal;
use crate::scope::{Entered, Tracker};
use crate::sync::Lock;

/// A section that a shutdown waits for, until this is dropped.
#[derive(Debug)]
#[must_use = "the section ends when this is dropped"]
pub struct Protected {
    entered: Lock<Option<Entered<Arc<Tracker>>>>,
    sections: Arc<Tracker>,
}

impl Protected {
    pub(super) fn new(sections: &Arc<Tracker>) -> Result<Self, Refusal> {
        let entered = sections.enter_owned()?;
        Ok(Self {
            entered: Lock::new(Some(entered)),
            sections: Arc::clone(sections),
        })
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        let end = || {
            let entered = self.entered.lock().take();
            drop(entered);
        };
        if self.sections.is_closed() && self.sections.in_flight() == 1 {
            // The last one wakes the shutdown.
            pace::from_outside(end);
        } else {
            end();
        }
    }
}
