//! What one operation costs while two threads work on one object.
//!
//! Two threads, each pinned to a core of its own with a runtime of its own, start together and do
//! the same number of operations. The figure is wall time divided by the operations of both, so a
//! perfectly sharded object would show half of what it costs alone.
//!
//! A round counts only if both threads were at work for nine tenths of it, and neither lost its
//! core: otherwise it would show an object that nobody contends for. What blocks in the kernel
//! loses its core by design; if there are too few such rounds, those that overlapped count. If
//! there are too few of these as well, there is no figure rather than a wrong one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::meter::{self, Effort, Sample, Span, Work, calibrate};

/// Both threads are at work for this part of a round.
const OVERLAP: f64 = 0.9;
/// And each has its core for this part of it.
const ON_CPU: f64 = 0.93;
/// Fewer good rounds than this say nothing.
const ENOUGH: usize = 9;

/// One round of one thread.
struct Job {
    work: Box<dyn Work>,
    times: u64,
    /// How many have arrived.
    gate: Arc<AtomicUsize>,
}

type Done = (Box<dyn Work>, Span);

struct Worker {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Worker {
    fn new(core: usize) -> Self {
        let (jobs, orders) = channel::<Job>();
        let (report, done) = channel();
        thread::spawn(move || {
            pin_to(core);
            let runtime = meter::runtime();
            for Job {
                mut work,
                times,
                gate,
            } in orders
            {
                wait_for_both(&gate);
                let span = work.run(&runtime, times);
                if report.send((work, span)).is_err() {
                    return;
                }
            }
        });
        Self { jobs, done }
    }
}

/// Spins, so that both start within nanoseconds of each other. On a busy machine the other may
/// not have its core for a while; then it is no use to burn one's own share of time.
fn wait_for_both(gate: &AtomicUsize) {
    gate.fetch_add(1, Ordering::SeqCst);
    let mut spins = 0_u32;
    while gate.load(Ordering::SeqCst) < 2 {
        spins += 1;
        if spins.is_multiple_of(5_000) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// Two threads on two cores.
pub(crate) struct Pair([Worker; 2]);

impl Pair {
    /// None on a machine with one core.
    pub(crate) fn new() -> Option<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (cores > 1).then(|| Self([Worker::new(0), Worker::new(1)]))
    }

    fn round(&self, pair: &mut [Option<Box<dyn Work>>; 2], times: u64) -> Round {
        let gate = Arc::new(AtomicUsize::new(0));
        for (worker, work) in self.0.iter().zip(pair.iter_mut()) {
            let job = Job {
                work: work.take().expect("the latest round gave it back"),
                times,
                gate: Arc::clone(&gate),
            };
            worker.jobs.send(job).expect("the worker lives");
        }
        let mut spans = self.0.iter().zip(pair).map(|(worker, slot)| {
            let (work, span) = worker.done.recv().expect("no body panics");
            *slot = Some(work);
            span
        });
        let spans = [(); 2].map(|()| spans.next().expect("two workers"));
        Round::new(&spans, times)
    }
}

/// A shared object, ready to be contended for.
pub(crate) struct Contended<'a> {
    pair: &'a Pair,
    works: [Option<Box<dyn Work>>; 2],
    times: u64,
    rounds: Vec<Round>,
}

impl<'a> Contended<'a> {
    pub(crate) fn new(effort: Effort, pair: &'a Pair, works: [Box<dyn Work>; 2]) -> Self {
        let mut works = works.map(Some);
        let run = |times| pair.round(&mut works, times).cpu;
        let times = calibrate(effort.round, u64::MAX, run);
        Self {
            pair,
            works,
            times,
            rounds: Vec::new(),
        }
    }

    pub(crate) fn round(&mut self) {
        let round = self.pair.round(&mut self.works, self.times);
        self.rounds.push(round);
    }

    /// Are there enough rounds in which both were at work?
    pub(crate) fn is_clear(&self) -> bool {
        !chosen(&self.rounds).is_empty()
    }

    /// Of the best rounds that there are enough of; of none where there are too few.
    pub(crate) fn sample(self) -> Sample {
        Sample::of(chosen(&self.rounds))
    }
}

/// What one round says.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Wall time for one operation of either.
    nanos: f64,
    overlap: f64,
    on_cpu: f64,
    /// CPU time of the slower thread, in nanoseconds.
    cpu: u64,
}

impl Round {
    fn new(spans: &[Span; 2], times: u64) -> Self {
        let [one, other] = spans;
        let whole = (one.end.max(other.end) - one.start.min(other.start)).as_nanos() as f64;
        let both = one.end.min(other.end);
        let both = both.saturating_duration_since(one.start.max(other.start));
        let on_cpu = |span: &Span| span.cpu as f64 / (span.end - span.start).as_nanos() as f64;
        Self {
            nanos: whole / (2.0 * times as f64),
            overlap: both.as_nanos() as f64 / whole,
            on_cpu: on_cpu(one).min(on_cpu(other)),
            cpu: one.cpu.max(other.cpu),
        }
    }
}

fn chosen(rounds: &[Round]) -> Vec<f64> {
    let nanos = |keep: fn(&Round) -> bool| {
        let kept = rounds.iter().copied().filter(keep);
        kept.map(|round| round.nanos).collect::<Vec<_>>()
    };
    let good = nanos(|round| round.overlap >= OVERLAP && round.on_cpu >= ON_CPU);
    if good.len() >= ENOUGH {
        return good;
    }
    let overlapped = nanos(|round| round.overlap >= OVERLAP);
    if overlapped.len() >= ENOUGH {
        return overlapped;
    }
    Vec::new()
}

#[allow(unsafe_code, reason = "a call of the C library")]
fn pin_to(core: usize) {
    // SAFETY: a set of zeros is an empty set, and the pointer is good for the call. If it fails,
    // the rounds that did not overlap are thrown away all the same.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::meter::Looped;

    fn round(nanos: f64, overlap: f64, on_cpu: f64) -> Round {
        Round {
            nanos,
            overlap,
            on_cpu,
            cpu: 0,
        }
    }

    #[test]
    fn too_few_rounds_say_nothing() {
        let rounds = vec![round(1.0, 0.95, 1.0); ENOUGH - 1];
        assert!(chosen(&rounds).is_empty());
    }

    #[test]
    fn rounds_of_one_thread_at_a_time_do_not_count() {
        let mut rounds = vec![round(1.0, 0.2, 1.0); 50];
        rounds.extend(vec![round(9.0, 0.95, 1.0); ENOUGH]);
        assert_eq!(chosen(&rounds), vec![9.0; ENOUGH]);
    }

    #[test]
    fn who_blocks_by_design_is_judged_by_the_rounds_that_overlapped() {
        let mut rounds = vec![round(7.0, 0.95, 0.4); ENOUGH];
        rounds.push(round(9.0, 0.95, 1.0));
        assert_eq!(chosen(&rounds).len(), ENOUGH + 1);
    }

    #[test]
    fn a_round_is_the_wall_time_of_both() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let span = |from, to, cpu| Span {
            start: at(from),
            end: at(to),
            cpu,
        };
        let round = Round::new(&[span(0, 90, 90_000), span(10, 100, 45_000)], 50);
        assert!((round.nanos - 1000.0).abs() < 1e-6);
        assert!((round.overlap - 0.8).abs() < 1e-6);
        assert!((round.on_cpu - 0.5).abs() < 1e-6);
    }

    #[test]
    fn two_threads_work_on_one_object() {
        let Some(pair) = Pair::new() else { return };
        let count = Arc::new(AtomicUsize::new(0));
        let works = [(); 2].map(|()| -> Box<dyn Work> {
            let count = Arc::clone(&count);
            Box::new(Looped::new(
                async move || count.fetch_add(1, Ordering::Relaxed),
                false,
            ))
        });
        let mut contended = Contended::new(Effort::QUICK, &pair, works);
        let before = count.load(Ordering::Relaxed) as u64;
        contended.round();
        let after = count.load(Ordering::Relaxed) as u64;
        assert_eq!(after - before, 2 * contended.times);
    }
}
