//! What a gather yields in the end.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// Every item's outcome, in the order of the source.
///
/// # Examples
///
/// ```
/// use mainstay::gather::gather;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let half = |n: u32| async move { if n % 2 == 0 { Ok(n / 2) } else { Err("odd") } };
/// let gathered = gather((1..=4).map(half)).await;
/// assert!(gathered.is_complete());
/// assert!(gathered.successes().eq([&1, &2]));
/// let odd: Vec<_> = gathered.failures().map(|(index, _)| index).collect();
/// assert_eq!(odd, [0, 2]);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "every outcome is in it, the failures as well"]
pub struct Gathered<T, E> {
    outcomes: Vec<Result<T, Error<E>>>,
    /// The time for the whole, if it has cut anything short.
    cut_after: Option<Duration>,
}

impl<T, E> Gathered<T, E> {
    pub(super) fn new(outcomes: Vec<Result<T, Error<E>>>, cut_after: Option<Duration>) -> Self {
        Self {
            outcomes,
            cut_after,
        }
    }

    /// Whether the source was pulled to its end, and the deadline for the whole cut nothing
    /// short. An item that failed or had its own time limit pass is complete all the same.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cut_after.is_none()
    }

    /// How many items there were; with an incomplete result, how many were taken up.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there was no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The outcomes, in the order of the source.
    pub fn outcomes(&self) -> &[Result<T, Error<E>>] {
        &self.outcomes
    }

    /// Goes through the outcomes, in the order of the source.
    pub fn iter(&self) -> std::slice::Iter<'_, Result<T, Error<E>>> {
        self.outcomes.iter()
    }

    /// The outcomes, by value.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Result<T, Error<E>>> {
        self.outcomes
    }

    /// What has succeeded.
    #[must_use]
    pub fn successes(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.outcomes.iter().filter_map(|one| one.as_ref().ok())
    }

    /// What has failed, and which item that was, from 0.
    #[must_use]
    pub fn failures(&self) -> impl DoubleEndedIterator<Item = (usize, &Error<E>)> {
        let all = self.outcomes.iter().enumerate();
        all.filter_map(|(index, one)| Some((index, one.as_ref().err()?)))
    }

    /// What has succeeded, by value; the failures are dropped.
    #[must_use]
    pub fn into_successes(self) -> impl DoubleEndedIterator<Item = T> {
        self.outcomes.into_iter().flatten()
    }

    /// All values, or the first error in the order of the source.
    ///
    /// Here every item has run to its end; [`try_all`](super::Gather::try_all) stops at the
    /// first error.
    ///
    /// # Errors
    ///
    /// The failed item that came first in the source. If none has failed and the result is
    /// [incomplete](Self::is_complete), the first one that is missing has timed out.
    pub fn into_result(self) -> Result<Vec<T>, ItemError<E>> {
        let late = |limit| ItemError::new(self.outcomes.len(), Error::timed_out(limit));
        let missing = self.cut_after.map(late);
        let all = self.outcomes.into_iter().enumerate();
        let values = all
            .map(|(index, one)| one.map_err(|error| ItemError::new(index, error)))
            .collect::<Result<_, _>>()?;
        missing.map_or(Ok(values), Err)
    }
}

impl<T, E> Gathered<T, Error<E>> {
    /// Makes one error of two for each item, where the items were calls already:
    /// `gather(urls.map(|url| pipeline.call(...)))`.
    ///
    /// [`Gather::through`](super::Gather::through) needs no such step.
    pub fn flatten(self) -> Gathered<T, E> {
        let flat = |one: Result<T, Error<Error<E>>>| one.map_err(Error::flatten);
        Gathered {
            outcomes: self.outcomes.into_iter().map(flat).collect(),
            cut_after: self.cut_after,
        }
    }
}

impl<T, E> From<Gathered<T, E>> for Vec<Result<T, Error<E>>> {
    fn from(gathered: Gathered<T, E>) -> Self {
        gathered.outcomes
    }
}

impl<T, E> IntoIterator for Gathered<T, E> {
    type Item = Result<T, Error<E>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.outcomes.into_iter()
    }
}

impl<'a, T, E> IntoIterator for &'a Gathered<T, E> {
    type Item = &'a Result<T, Error<E>>;
    type IntoIter = std::slice::Iter<'a, Result<T, Error<E>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One item's error, and which item that was.
///
/// As text: `item 37: timed out after 1s`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemError<E> {
    /// The item's place in the source, from 0.
    pub index: usize,
    /// Its error.
    pub error: Error<E>,
}

impl<E> ItemError<E> {
    pub(super) const fn new(index: usize, error: Error<E>) -> Self {
        Self { index, error }
    }

    /// The error alone.
    #[must_use]
    pub fn into_error(self) -> Error<E> {
        self.error
    }
}

impl<E> ItemError<Error<E>> {
    /// Makes one error of two, where the item was a call already.
    #[must_use]
    pub fn flatten(self) -> ItemError<E> {
        ItemError::new(self.index, self.error.flatten())
    }
}

impl<E: fmt::Display> fmt::Display for ItemError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}: {}", self.index, self.error)
    }
}

impl<E: StdError + 'static> StdError for ItemError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl<E> From<ItemError<E>> for Error<E> {
    fn from(item: ItemError<E>) -> Self {
        item.error
    }
}
