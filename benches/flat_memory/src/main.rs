//! Does memory grow with the number of items? Prints the peak resident size for few items and
//! for many, and fails when it grows: `cargo run --release -p mainstay-flat-memory`.
//!
//! Linux only: it reads `/proc/self/status`.

mod gather;
mod queue;
mod resident;

use std::pin::Pin;
use std::process::ExitCode;

use resident::peak_kib_of;

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;
/// How much more the many may take: noise of the allocator.
const SLACK_KIB: u64 = 4 * 1024;

/// A name, and what runs so many items.
type Form = (&'static str, fn(u64) -> Pin<Box<dyn Future<Output = ()>>>);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut flat = true;
    for (name, run) in gather::FORMS.into_iter().chain(queue::FORMS) {
        let few = peak_kib_of(|| runtime.block_on(run(FEW)));
        let many = peak_kib_of(|| runtime.block_on(run(MANY)));
        let grows = many > few + SLACK_KIB;
        flat &= !grows;
        println!(
            "{name:<40} {FEW:>7} items: {few:>7} KiB   {MANY} items: {many:>7} KiB   {}",
            if grows { "GROWS" } else { "flat" }
        );
    }
    if flat {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
