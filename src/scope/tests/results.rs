//! Nothing of a task is alive when its scope has waited for it.

use super::*;

/// Takes its time to go.
struct Slow(#[expect(dead_code, reason = "its drop is what counts")] One);

impl Drop for Slow {
    fn drop(&mut self) {
        for _ in 0..200 {
            std::thread::yield_now();
        }
    }
}

/// The result of a task whose handle is gone is one of its parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_nobody_takes_is_gone_before_the_task_is() {
    let alive = Alive::default();
    let mut left = 0;
    for _ in 0..200 {
        let scope = Scope::new();
        let slow = Slow(alive.one());
        let task = async move { Ok::<_, Infallible>(slow) };
        drop(scope.spawn("slow", task).unwrap());
        scope.join().await;
        left += alive.count();
        while alive.count() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(left, 0, "of 200");
}

/// What a handle has not taken goes with the handle.
#[tokio::test(start_paused = true)]
async fn a_result_goes_with_its_handle() {
    let alive = Alive::default();
    let scope = Scope::new();
    let one = alive.one();
    let task = scope.spawn("one", async move { Ok::<_, Infallible>(one) });
    scope.join().await;
    assert_eq!(alive.count(), 1);
    assert!(task.as_ref().unwrap().is_finished());
    drop(task);
    assert_eq!(alive.count(), 0);
}
