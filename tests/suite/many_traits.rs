//! Who of those that do many things at once is `Send`, `Sync`, `Unpin` and `Clone`.

use std::fmt::Debug;
use std::future::Ready;
use std::rc::Rc;

use mainstay::gather::{Background, GatherProgress, Gathered, ItemError};
use mainstay::lazy::Lazy;
use mainstay::offload::{Offload, OffloadSnapshot};
use mainstay::pool::{Get, Pool, PoolSnapshot, Pooled};
use mainstay::queue::{Outcomes, Push, Queue, QueueSnapshot, Rejected, Ticket};
use mainstay::scope::{Scope, ScopeHandle, ScopeReport, Task, TaskInfo, Tracker};
use mainstay::shutdown::{Component, Counts, Protected, Shutdown, ShutdownReport};
use mainstay::stream::{Every, Tick};
use mainstay::{BoxError, Error};
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::support::Oops;

type Made = fn() -> Ready<Result<u32, Oops>>;

// Results of a gather.
assert_impl_all!(Gathered<u32, Oops>: Send, Sync, Debug, IntoIterator);
assert_impl_all!(ItemError<Oops>: Send, Sync, Debug, std::error::Error, Into<BoxError>);
assert_impl_all!(GatherProgress: Send, Sync, Copy, Debug);
assert_impl_all!(Background<u32, Oops>: Send, Unpin, Debug);

// Pools: shared by their clones; what is lent out can be moved and is nobody else's.
assert_impl_all!(Pool<Made>: Send, Sync, Unpin, Clone, Debug, Component);
assert_impl_all!(Pooled<'static, Made>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Pooled<'static, Made>: Clone);
assert_impl_all!(Get<'static, Made>: Send, Debug);
assert_impl_all!(PoolSnapshot: Send, Sync, Copy, Eq, Debug);

// Queues.
assert_impl_all!(Queue<u32, u32, Oops>: Send, Sync, Unpin, Clone, Debug, Component);
assert_impl_all!(Push<u32, u32, Oops>: Send, Unpin, Debug);
assert_impl_all!(Ticket<u32, Oops>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Ticket<u32, Oops>: Clone);
assert_impl_all!(Outcomes<u32, Oops>: Send, Unpin, Debug);
assert_impl_all!(QueueSnapshot: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(Rejected<u32>: Send, Sync, Debug, std::error::Error);

// Scopes: a scope has one owner, its handles are many.
assert_impl_all!(Scope: Send, Sync, Debug, Component);
assert_not_impl_any!(Scope: Clone);
assert_impl_all!(ScopeHandle: Send, Sync, Clone, Debug, Component);
assert_impl_all!(Task<u32, Oops>: Send, Unpin, Debug, Future<Output = Result<u32, Error<Oops>>>);
assert_impl_all!(ScopeReport: Send, Sync, Clone, Debug);
assert_impl_all!(TaskInfo: Send, Sync, Clone, Debug);
assert_impl_all!(Tracker: Send, Sync, Debug, Default, Component);

// Shutdowns.
assert_impl_all!(Shutdown: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Protected: Send, Sync, Debug);
assert_not_impl_any!(Protected: Clone);
assert_impl_all!(ShutdownReport: Send, Sync, Clone, Debug);
assert_impl_all!(Counts: Send, Sync, Copy, Eq, Debug, Default);

// The rest.
assert_impl_all!(Lazy<u32, Oops>: Send, Sync, Debug);
assert_not_impl_any!(Lazy<Rc<u32>, Oops>: Send, Sync);
assert_impl_all!(Offload: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(OffloadSnapshot: Send, Sync, Copy, Eq, Debug);
assert_impl_all!(Every: Send, Unpin, Debug);
assert_impl_all!(Tick: Send, Sync, Copy, Eq, Debug);
