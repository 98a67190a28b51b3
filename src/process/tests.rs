//! What cannot be had from outside: a system that knows no descriptors of processes.

use std::time::Duration;

use super::command::Command;
use super::output::End;
use super::running::Process;
use super::supervise::Exit;

fn start(command: &Command) -> Process {
    Process::start_with(command, |_| Exit::by_signal()).unwrap()
}

#[tokio::test]
#[cfg_attr(miri, ignore = "it starts processes")]
async fn without_descriptors_the_signal_tells_of_each_end() {
    let mut children: Vec<_> = (0..20)
        .map(|code| start(&Command::shell(format!("sleep 0.0{code}; exit {code}"))))
        .collect();
    for (code, child) in children.iter_mut().enumerate() {
        let output = child.wait().await.unwrap();
        assert_eq!(output.end, End::Exited(i32::try_from(code).unwrap()));
    }
}

#[tokio::test]
#[cfg_attr(miri, ignore = "it starts processes")]
async fn without_descriptors_limits_hold_too() {
    let command = Command::shell("echo one; trap '' TERM; sleep 60; sleep 60")
        .time_limit(Duration::from_millis(50))
        .grace(Duration::from_millis(50));
    let output = start(&command).wait().await.unwrap();
    assert!(matches!(output.end, End::TimedOut { .. }) && output.forced);
    assert_eq!(output.stdout.text(), "one\n");
}
