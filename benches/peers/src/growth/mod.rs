//! How cost grows: keys, windows, queues, slots, tasks, depth.

use crate::Options;

pub(crate) fn run(_options: &Options) {}
